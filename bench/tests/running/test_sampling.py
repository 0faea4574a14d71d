from __future__ import annotations

from collections import Counter

import pytest

from lora_da_bench.running.sampling import draw_calibration, draw_training_order


def test_every_pass_reads_every_example_once() -> None:
    order = draw_training_order([5] * 7, batch_size=2, steps=112, seed=3)
    # 224 indices are 32 whole passes over 7 examples, in seven pools of 32.
    assert Counter(order) == dict.fromkeys(range(7), 32)


def test_the_seed_decides_and_nothing_else() -> None:
    lengths = list(range(100))
    assert draw_training_order(lengths, 4, 10, seed=1) == draw_training_order(lengths, 4, 10, seed=1)
    assert draw_training_order(lengths, 4, 10, seed=1) != draw_training_order(lengths, 4, 10, seed=2)


def test_a_longer_schedule_begins_as_a_shorter_one() -> None:
    lengths = list(range(100))
    assert draw_training_order(lengths, 4, 30, seed=1)[:40] == draw_training_order(lengths, 4, 10, seed=1)


def test_batches_hold_examples_of_like_length() -> None:
    lengths = [index % 50 for index in range(1000)]
    order = draw_training_order(lengths, 8, 64, seed=0)
    padded = sum(8 * max(lengths[index] for index in order[start : start + 8]) for start in range(0, len(order), 8))
    assert padded < 1.15 * sum(lengths[index] for index in order)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        draw_training_order([], 4, 1, seed=0)


def test_what_is_trained_on_first_is_not_the_calibration_sample() -> None:
    # With one random stream for both, the first examples of training would be the calibration examples.
    for seed in range(5):
        first = draw_training_order([1] * 2000, 8, 12, seed)
        assert len(set(first) & set(draw_calibration(2000, 64, seed))) < 15  # 3 are expected
