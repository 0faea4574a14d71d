from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lora_da.statistics.batches.examples import take_examples


def _batches(*sizes: int) -> list[dict[str, Any]]:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [
        {"input_ids": torch.arange(start, start + size)[:, None], "note": "kept"}
        for start, size in zip(starts, sizes, strict=True)
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 100])
def test_the_number_of_examples_is_met_exactly(most: int) -> None:
    taken = list(take_examples(_batches(3, 2, 1), most))
    ids = torch.cat([batch["input_ids"] for batch in taken]).flatten().tolist()
    assert ids == list(range(min(most, 6)))
    assert all(batch["note"] == "kept" for batch in taken)


def test_no_more_batches_are_read_than_needed() -> None:
    def loader() -> Iterator[dict[str, Any]]:
        yield from _batches(3)
        raise AssertionError("read too far")

    assert len(list(take_examples(loader(), 3))) == 1


def test_a_cut_batch_keeps_what_is_not_per_example() -> None:
    batch = {"input_ids": torch.zeros(4, 7), "labels": torch.arange(4), "table": torch.zeros(2, 2)}
    batch["scalar"] = torch.ones(())
    (cut,) = take_examples([batch], 3)
    assert cut["input_ids"].shape == (3, 7)
    assert cut["labels"].tolist() == [0, 1, 2]
    assert cut["table"].shape == (2, 2)
    assert cut["scalar"].shape == ()


def test_what_is_no_batch() -> None:
    with pytest.raises(TypeError, match="batch 1 of the data loader is a list; a mapping of names"):
        list(take_examples([_batches(1)[0], [torch.zeros(1)]], 9))
    with pytest.raises(ValueError, match="max_examples must be at least 1, not 0"):
        list(take_examples(_batches(1), 0))
    for empty in ({}, {"input_ids": torch.zeros(0, 3)}, {"note": "text"}):
        with pytest.raises(ValueError, match="a batch has no example; its keys are"):
            list(take_examples([empty], 3))
