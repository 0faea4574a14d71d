from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lora_da.statistics.batches.examples import find_dataset_length, find_length, take_examples


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


def test_a_batch_is_cut_by_examples() -> None:
    batch: dict[str, Any] = {"input_ids": torch.arange(8)[:, None], "margin": torch.arange(4), "scalar": torch.ones(())}
    batch |= {"names": list("abcdefgh"), "note": "kept"}
    (cut,) = take_examples([batch], 3, rows_per_example=2)
    assert cut["input_ids"].flatten().tolist() == [0, 1, 2, 4, 5, 6]
    assert cut["margin"].tolist() == [0, 1, 2]
    assert cut["names"] == list("abcefg")
    assert cut["note"] == "kept"
    assert cut["scalar"].shape == ()
    with pytest.raises(ValueError, match="a batch of 3 rows has no whole number of examples of 2 rows each"):
        list(take_examples([{"input_ids": torch.zeros(3, 1).long()}], 1, rows_per_example=2))


def test_a_batch_is_not_cut_where_its_parts_cannot_be_told() -> None:
    patches = {"input_ids": torch.zeros(4, 7).long(), "pixel_values": torch.zeros(9, 3)}
    with pytest.raises(ValueError, match=r"max_examples=3 ends within batch 0.*'pixel_values' of shape \(9, 3\).*=4,"):
        list(take_examples([patches], 3))
    with pytest.raises(ValueError, match=r"ends within batch 1.*loss is one's own.*Give max_examples=3 or 5"):
        list(take_examples(_batches(3, 2), 4, rows_per_example=None))
    assert len(list(take_examples(_batches(3, 2), 5, rows_per_example=None))) == 2


def test_what_is_no_batch() -> None:
    with pytest.raises(TypeError, match="batch 1 of the data loader is a list; a mapping of names"):
        list(take_examples([_batches(1)[0], [torch.zeros(1)]], 9))
    with pytest.raises(ValueError, match="max_examples must be at least 1, not 0"):
        list(take_examples(_batches(1), 0))
    for empty in ({}, {"input_ids": torch.zeros(0, 3).long()}, {"note": "text"}):
        with pytest.raises(ValueError, match="a batch has no example; its keys are"):
            list(take_examples([empty], 3))
    single = {"input_ids": torch.tensor([1, 2]), "labels": torch.tensor([1, 2])}
    for given, why in (
        ({"input_ids": [[1, 2]]}, "'input_ids' in batch 0 of the data loader is a list"),
        (single, "one example"),
    ):
        with pytest.raises(ValueError, match=f"{why}.* collate_fn"):
            list(take_examples([given], 3))


def test_lengths_that_are_not_known() -> None:
    class Streaming:
        def __len__(self) -> int:
            raise RuntimeError("streaming")

    assert find_length([1, 2]) == 2
    assert find_length(Streaming()) is None
    assert find_length(iter(())) is None
    assert find_dataset_length([{}]) is None


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"input_ids": torch.ones(2, 3)}, "'input_ids' in batch 0 of the data loader is in torch.float32"),
        ({"input_ids": torch.ones(2, 0).long()}, r"'input_ids' in batch 0 .* has the shape \(2, 0\): no token"),
        (
            {"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.ones(2, 2)},
            r"'attention_mask' in batch 0 .* the shape \(2, 2\), its 'input_ids' \(2, 3\)",
        ),
        (
            {"input_ids": torch.ones(2, 3).int(), "attention_mask": torch.ones(1, 3)},
            r"'attention_mask' in batch 0 .* the shape \(1, 3\), its 'input_ids' \(2, 3\)",
        ),
    ],
)
def test_ids_and_masks_that_can_not_be(batch: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(take_examples([batch], 3))
