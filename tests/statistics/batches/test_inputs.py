from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import BatchEncoding

from lora_da.statistics.batches.inputs import batch_size, labels_of, model_inputs, take_examples
from models import batches_of, causal_examples, tiny_bert, tiny_gpt2, tiny_llama, tiny_t5, tiny_vit

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("kind", [UserDict, BatchEncoding])
def test_any_mapping_is_a_batch(kind: Any) -> None:
    (batch,) = take_examples([kind(_batches(2)[0])], 5)
    assert type(batch) is dict
    assert batch_size(batch) == 2


def test_what_is_no_batch() -> None:
    with pytest.raises(TypeError, match="batch 1 of the data loader is a list; a mapping of names"):
        list(take_examples([*_batches(1), [torch.zeros(1)]], 9))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="max_examples must be at least 1, not 0"):
        list(take_examples(_batches(1), 0))
    for empty in ({}, {"input_ids": torch.zeros(0, 3)}, {"note": "text"}):
        with pytest.raises(ValueError, match="a batch has no example; its keys are"):
            list(take_examples([empty], 3))


def test_labels_under_any_usual_name() -> None:
    for key in ("labels", "label", "label_ids"):
        assert labels_of({key: torch.tensor([1])}).tolist() == [1]
    with pytest.raises(ValueError, match=r"the batch has no labels; its keys are \['input_ids'\]"):
        labels_of({"input_ids": torch.zeros(1)})


def test_the_model_never_sees_labels() -> None:
    for key in ("labels", "label", "label_ids"):
        inputs = model_inputs(tiny_llama(), {"input_ids": torch.ones(1, 2, dtype=torch.long), key: torch.ones(1)}, CPU)
        assert set(inputs) == {"input_ids", "use_cache"}
        assert inputs["use_cache"] is False


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_bert])
def test_positions_are_derived_from_a_mask_that_pads_on_the_left(make: Any) -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    inputs = model_inputs(make(), {"input_ids": mask, "attention_mask": mask}, CPU)
    assert inputs["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert "position_ids" not in model_inputs(make(), {"input_ids": mask, "attention_mask": mask.flip(1)}, CPU)
    own = torch.tensor([[5, 5, 6, 7], [0, 1, 2, 3]])
    given = model_inputs(make(), {"input_ids": mask, "attention_mask": mask, "position_ids": own}, CPU)
    assert torch.equal(given["position_ids"], own)


def test_images_pass_as_they_are() -> None:
    batch = {"pixel_values": torch.zeros(2, 1, 8, 8), "labels": torch.zeros(2, dtype=torch.long)}
    assert set(model_inputs(tiny_vit(), batch, CPU)) == {"pixel_values"}
    assert batch_size(batch) == 2


def test_a_decoders_inputs_come_from_the_labels() -> None:
    batch = {"input_ids": torch.ones(1, 3, dtype=torch.long), "labels": torch.tensor([[7, 8, -100]])}
    assert model_inputs(tiny_t5(), batch, CPU)["decoder_input_ids"].tolist() == [[0, 7, 8]]
    own = torch.tensor([[0, 9, 9]])
    given = model_inputs(tiny_t5(), batch | {"decoder_input_ids": own}, CPU)
    assert torch.equal(given["decoder_input_ids"], own)
    with pytest.raises(ValueError, match=r"the batch has no labels; its keys are \['input_ids'\]"):
        model_inputs(tiny_t5(), {"input_ids": batch["input_ids"]}, CPU)


@pytest.mark.parametrize("key", ["cu_seqlens", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx", "max_length_q"])
def test_padding_free_batches_are_refused(key: str) -> None:
    batch = batches_of(causal_examples(2))[0] | {key: torch.tensor([0, 3, 7])}
    with pytest.raises(ValueError, match=f"the batch has '{key}': packed or padding-free batches"):
        model_inputs(tiny_llama(), batch, CPU)
    model_inputs(tiny_llama(), batch | {key: None}, CPU)  # type: ignore[dict-item]


def test_packed_batches_are_refused() -> None:
    tokens = torch.ones(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match="position_ids start again within a row"):
        model_inputs(tiny_llama(), {"input_ids": tokens, "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}, CPU)
    for mask in (torch.tensor([[1, 1, 1, 2, 2]]), torch.ones(1, 1, 5, 5)):
        with pytest.raises(ValueError, match=r"attention_mask must be .* zeros and ones"):
            model_inputs(tiny_llama(), {"input_ids": tokens, "attention_mask": mask}, CPU)


def test_positions_may_start_again_in_padding() -> None:
    tokens = torch.ones(1, 5, dtype=torch.long)
    batch = {
        "input_ids": tokens,
        "position_ids": torch.tensor([[0, 1, 2, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0, 0]]),
    }
    assert "position_ids" in model_inputs(tiny_llama(), batch, CPU)
