from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DataCollatorWithFlattening
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from lora_da.statistics.batches.examples import batch_size, cut_batch, take_examples
from lora_da.statistics.batches.segments import find_segments
from models import Example, causal_examples, collate, packed

EXAMPLES = causal_examples(6)
LENGTHS = [len(example["input_ids"]) for example in EXAMPLES]


def _numbers(batch: Any) -> list[list[int]]:
    segments = find_segments(batch)
    assert segments is not None
    return segments.numbers.tolist()


def _collated(kind: str) -> dict[str, Any]:
    rows = [{key: value.tolist() for key, value in example.items()} for example in EXAMPLES[:3]]
    if kind == "trl":
        return dict(DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows))
    if kind == "trl, packed and padded":
        merged = {key: [entry for row in rows for entry in row[key]] for key in rows[0]}
        collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True, pad_to_multiple_of=16)
        return dict(collator([merged | {"seq_lengths": LENGTHS[:3]}]))
    told = {"position_ids": kind == "positions", "flash_attn_kwargs": kind == "lengths", "seq_idx": kind == "indices"}
    return dict(DataCollatorWithFlattening(**{f"return_{name}": value for name, value in told.items()})(rows))


@pytest.mark.parametrize("kind", ["trl", "trl, packed and padded", "positions", "lengths", "indices"])
def test_collators_of_trl_and_transformers_are_understood(kind: str) -> None:
    batch = _collated(kind)
    padding = [-1] * (batch["input_ids"].shape[1] - sum(LENGTHS[:3]))
    assert bool(padding) == ("padded" in kind)
    assert _numbers(batch) == [[0] * LENGTHS[0] + [1] * LENGTHS[1] + [2] * LENGTHS[2] + padding]
    assert batch_size(batch) == 3


@pytest.mark.parametrize("lengths", [[[2, 3], [4]], torch.tensor([[2, 3], [4, 0]]), [torch.tensor([2, 3]), [4]]])
def test_segments_are_numbered_row_by_row(lengths: Any) -> None:
    wanted = [[0, 0, 1, 1, 1], [2, 2, 2, 2, -1]]
    ids = torch.arange(10).view(2, 5)
    assert _numbers({"input_ids": ids, "seq_lengths": lengths, "labels": ids.where(ids < 9, -100)}) == wanted
    assert _numbers({"input_ids": ids, "cu_seqlens": torch.tensor([0, 2, 5, 10])})[1] == [2] * 5
    assert _numbers({"input_ids": ids[:1], "seq_lengths": [2, 3]}) == wanted[:1]
    embedded = {"inputs_embeds": torch.zeros(2, 5, 3), "position_ids": torch.tensor([[0, 1, 0, 1, 2]])}
    assert _numbers(embedded)[1] == [2, 2, 3, 3, 3]


def test_what_is_not_packed() -> None:
    assert find_segments({"pixel_values": torch.zeros(2, 3)}) is None
    batch = collate(EXAMPLES)
    assert find_segments(batch) is None
    positions = torch.arange(batch["input_ids"].shape[1])[None]
    assert find_segments(batch | {"position_ids": positions}) is None
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    padded = {"input_ids": mask, "attention_mask": mask}  # positions may start again in padding, or stay at an image
    assert find_segments(padded | {"position_ids": torch.tensor([[1, 1, 0, 1, 2], [0, 1, 2, 0, 0]])}) is None
    assert find_segments({"input_ids": mask, "position_ids": torch.tensor([[0, 1, 1, 1, 2]] * 2)}) is None


def test_what_does_not_fit_together() -> None:
    batch = packed([EXAMPLES[:2]])
    total = sum(LENGTHS[:2])
    for entry, message in {
        ("cu_seq_lens_q", (0, 1, total)): "'position_ids' and 'cu_seq_lens_q' of the batch disagree.*unpack",
        ("cu_seq_lens_k", (0, total + 1)): rf"'cu_seq_lens_k' of the batch must grow from 0 to its {total}.*unpack",
        ("seq_lengths", ((total + 1,),)): "'seq_lengths' of the batch must hold the lengths.*unpack",
    }.items():
        with pytest.raises(ValueError, match=message):
            find_segments(batch | {entry[0]: torch.tensor(entry[1])})
    with pytest.raises(ValueError, match=r"an example that goes on in the next row: unpack"):
        find_segments({"input_ids": torch.zeros(2, 5), "cu_seqlens": torch.tensor([0, 6, 10])})
    with pytest.raises(ValueError, match=r"'pixel_values' of shape \(1, 3, 8, 8\) can't be divided.*unpack"):
        find_segments(batch | {"pixel_values": torch.zeros(1, 3, 8, 8)})


@pytest.mark.parametrize("most", range(1, 7))
def test_a_pack_is_cut_behind_an_example(most: int) -> None:
    batch: dict[str, Any] = packed([EXAMPLES[:3], EXAMPLES[3:5], EXAMPLES[5:]])
    segments = find_segments(batch)
    assert segments is not None
    bounds = segments.starts.flatten().nonzero().flatten().tolist()
    batch |= {"cu_seq_lens_q": torch.tensor([*bounds, batch["input_ids"].numel()], dtype=torch.int32)}
    batch |= {"max_length_q": 6, "note": "kept", "names": ["a", "b", "c"], "scalar": torch.ones(())}
    found: list[Example] = []
    for part in take_examples([batch], most):
        kept = find_segments(part)
        numbers = kept.numbers if kept else torch.zeros_like(part["input_ids"])
        for number in range(batch_size(part)):
            found.append({key: part[key][numbers == number] for key in ("input_ids", "labels")})
        assert part["note"] == "kept"
        assert len(part["names"]) == len(part["input_ids"])
        assert int(part["cu_seq_lens_q"][-1]) == part["input_ids"].numel()
        assert part["max_length_q"] == int(part["cu_seq_lens_q"].diff().max())
    assert len(found) == most
    for example, wanted in zip(found, EXAMPLES, strict=False):
        assert torch.equal(example["input_ids"], wanted["input_ids"])
        assert torch.equal(example["labels"][1:], wanted["labels"][1:])
    assert len(cut_batch(batch, 6)) == 1
