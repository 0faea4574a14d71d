"""What a seed draws: the calibration sample and the order of training, the same for every method."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_POOLED = 16  # batches whose examples are sorted by length together: padding falls, and the order stays random


def draw_calibration(count: int, examples: int, seed: int) -> list[int]:
    """Draw which of ``count`` training examples are the calibration sample, in their order; all if there are fewer."""
    return sorted(random.Random(seed).sample(range(count), min(examples, count)))


def draw_training_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Draw the indices of the examples of all batches, one after another.

    Each pass over the data is a fresh permutation; within pools of some batches examples of like length share a batch.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples a batch.
        steps: Batches.
        seed: Of the order.

    Returns:
        ``batch_size · steps`` indices.
    """
    if not lengths:
        raise ValueError("there are no examples to train on")
    # A stream of its own: with the bare seed, sampling the calibration examples would draw the very same ones first.
    generator = random.Random(f"order {seed}")
    stream = _permutations(len(lengths), generator)
    order: list[int] = []
    while len(order) < batch_size * steps:
        pool = sorted((next(stream) for _ in range(_POOLED * batch_size)), key=lambda index: lengths[index])
        batches = [pool[start : start + batch_size] for start in range(0, len(pool), batch_size)]
        generator.shuffle(batches)
        order += [index for batch in batches for index in batch]
    return order[: batch_size * steps]


def _permutations(count: int, generator: random.Random) -> Iterator[int]:
    while True:
        yield from generator.sample(range(count), count)
