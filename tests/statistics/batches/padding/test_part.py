"""Small parts of batches, on which layouts are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lora_da import collect_statistics
from lora_da.statistics.batches.padding.axis import find_axes
from lora_da.statistics.batches.padding.part import EXAMPLES, POSITIONS, take_part
from models import tiny_gpt2, tiny_llama, tiny_t5


def _batch(lengths: list[int], side: str = "right") -> dict[str, torch.Tensor]:
    places = torch.arange(max(lengths)).expand(len(lengths), -1)
    ends = torch.tensor(lengths)[:, None]
    mask = (places < ends if side == "right" else places >= max(lengths) - ends).long()
    ids = torch.randint(3, 20, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def test_the_longest_examples_are_taken_at_the_end_without_padding() -> None:
    for side in ("left", "right"):
        batch = _batch([5, 30, 17, 29], side)
        taken = take_part(batch, find_axes(tiny_llama(), batch, None))
        assert taken is not None
        part, (axis,) = taken
        assert part.keys() == {"input_ids", "attention_mask"}
        kept = batch["input_ids"][[1, 3]]
        assert torch.equal(part["input_ids"], kept[:, -POSITIONS:] if side == "left" else kept[:, :POSITIONS])
        assert torch.equal(axis.mask, part["attention_mask"].bool())


def test_a_decoder_is_cut_too() -> None:
    batch = _batch([5, 30, 17])
    batch["labels"] = batch["labels"][:, :20]
    taken = take_part(batch, find_axes(tiny_t5(), batch, None))
    assert taken is not None
    assert {name: tuple(value.shape) for name, value in taken[0].items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), (EXAMPLES, POSITIONS)
    )


def test_nothing_is_taken_of_small_batches_and_of_what_belongs_to_certain_positions() -> None:
    model = tiny_llama()
    small, images = _batch([4, 6]), _batch([5, 30, 17]) | {"pixel_values": torch.randn(3, 3, 8, 8)}
    for batch in (small, images):
        assert take_part(batch, find_axes(model, batch, None)) is None


def test_a_batch_of_text_is_run_once() -> None:
    model, sizes = tiny_llama(), []
    model.register_forward_pre_hook(
        lambda _module, _, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    batch = _batch([25, 30, 17], "left")
    collect_statistics(model, [batch], progress=False)
    assert sizes.count(batch["input_ids"].numel()) == 1


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_a_part_without_padding_keeps_the_side_where_it_stands(make: Callable[[], Any]) -> None:
    """Or positions would be tried with padding on the right, where no model needs any."""
    batch, model = _batch([25, 30, 17], "left"), make()
    batch["labels"][[0, 1, 2], [5, 0, 13]] = -100  # which padding would predict
    found = collect_statistics(model, [batch], progress=False)
    singles = [
        {name: value[[row], 30 - length :] for name, value in batch.items()} for row, length in enumerate([25, 30, 17])
    ]
    wanted = collect_statistics(model, singles, progress=False)
    assert found.tokens == wanted.tokens
    for name, value in wanted.gradient_sums.items():
        torch.testing.assert_close(found.gradient_sums[name], value, rtol=1e-4, atol=1e-5)
