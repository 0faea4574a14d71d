from __future__ import annotations

import torch

from lora_da.statistics.batches.padding.axis import find_axes, find_decoder_mask, with_other_content
from models import tiny_llama, tiny_t5

MASK = torch.tensor([[0, 1, 1], [1, 1, 1]])


def test_all_tensors_along_the_axis_grow_and_no_others() -> None:
    """An image of three channels is none of them, though its second dimension is as long."""
    batch = {
        "input_ids": torch.tensor([[7, 5, 6], [5, 6, 5]]),
        "attention_mask": MASK,
        "bbox": torch.ones(2, 3, 4, dtype=torch.long),
        "pixel_values": torch.ones(2, 3, 8, 8),
        "labels": torch.tensor([0, 1]),
    }
    (axis,) = find_axes(tiny_llama(), batch, None)
    assert (axis.name, axis.side, dict(axis.tensors)) == (
        "input",
        "left",
        {"input_ids": 1, "attention_mask": 1, "bbox": 1},
    )
    longer = axis.lengthened(batch, 2)
    assert longer["input_ids"].tolist() == [[7, 7, 7, 5, 6], [7, 7, 5, 6, 5]]
    assert longer["attention_mask"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert longer["bbox"].shape == (2, 5, 4)
    assert longer["pixel_values"] is batch["pixel_values"]
    assert axis.shortened(batch, 1)["input_ids"].tolist() == [[5, 6], [6, 5]]
    assert axis.single(batch, 0)["input_ids"].tolist() == [[5, 6]]
    assert axis.single(batch, 0)["pixel_values"].shape == (1, 3, 8, 8)


def test_a_decoder_has_an_axis_of_its_own() -> None:
    batch = {"input_ids": MASK, "attention_mask": MASK, "labels": torch.tensor([[5, 6, -100], [5, -100, -100]])}
    of_input, of_decoder = find_axes(tiny_t5(), batch, None)
    assert (of_input.side, of_decoder.side) == ("left", "right")
    assert of_decoder.mask.tolist() == [[True, True, False], [True, False, False]]
    assert of_decoder.lengthened(batch, 1)["labels"].tolist() == [[5, 6, -100, -100], [5, -100, -100, -100]]
    assert "labels" not in of_input.tensors


def test_choices_are_rows_of_their_own_and_spectrograms_run_along_their_last_dimension() -> None:
    mask = torch.ones(2, 3, 5, dtype=torch.long)
    (axis,) = find_axes(tiny_llama(), {"input_ids": mask, "attention_mask": mask}, None)
    assert axis.mask.shape == (6, 5)
    assert axis.lengthened({"input_ids": mask, "attention_mask": mask}, 2)["input_ids"].shape == (2, 3, 7)
    model = tiny_llama()
    model.main_input_name = "input_features"
    (axis,) = find_axes(model, {"input_features": torch.ones(2, 8, 3), "attention_mask": MASK}, None)
    assert dict(axis.tensors) == {"input_features": 2, "attention_mask": 1}


def test_another_content_keeps_special_ids_and_the_other_examples() -> None:
    batch = {"input_ids": torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2]]), "attention_mask": torch.ones(2, 4)}
    assert with_other_content(tiny_llama(), batch, 1)["input_ids"].tolist() == [[1, 5, 6, 2], [1, 8, 7, 2]]
    sound = {"input_values": torch.ones(2, 4)}
    assert with_other_content(tiny_llama(), sound, 0)["input_values"][:, 0].tolist() == [-1, 1]


def test_a_decoder_is_masked_by_its_labels_if_it_has_no_mask() -> None:
    labels = torch.tensor([[4, -100, 5, -100], [4, 5, 6, 7]])
    mask = find_decoder_mask({}, labels)
    assert mask is not None
    # A hole amid the labels is attended: a label stands behind it.
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    own = find_decoder_mask({"decoder_attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])}, labels)
    assert own is not None
    assert own.tolist()[0] == [False, True, True, True]
    assert find_decoder_mask({}, None) is None
