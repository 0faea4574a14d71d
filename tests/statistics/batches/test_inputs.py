from __future__ import annotations

import pytest
import torch

from lora_da.statistics.batches.inputs import find_labels, prepare_inputs
from models import causal_examples, packed, positionwise, tiny_llama, tiny_t5

CPU = torch.device("cpu")


def test_labels_under_any_usual_name() -> None:
    for key in ("labels", "label", "label_ids"):
        assert find_labels({key: torch.tensor([1])}).tolist() == [1]
    with pytest.raises(ValueError, match=r"the batch has no labels; its keys are \['input_ids'\]"):
        find_labels({"input_ids": torch.zeros(1)})


def test_the_model_never_sees_labels() -> None:
    for key in ("labels", "label", "label_ids"):
        inputs = prepare_inputs(
            tiny_llama(), {"input_ids": torch.ones(1, 2, dtype=torch.long), key: torch.ones(1)}, CPU
        )
        assert set(inputs) == {"input_ids", "use_cache"}
        assert inputs["use_cache"] is False


def test_positions_are_derived_from_the_mask_where_that_is_asked_for() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    batch = {"input_ids": mask, "attention_mask": mask}
    inputs = prepare_inputs(tiny_llama(), batch, CPU, positions=True)
    assert inputs["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert "position_ids" not in prepare_inputs(tiny_llama(), batch, CPU)


def test_a_decoders_inputs_come_from_the_labels() -> None:
    batch = {"input_ids": torch.ones(1, 3, dtype=torch.long), "labels": torch.tensor([[7, 8, -100]])}
    assert prepare_inputs(tiny_t5(), batch, CPU)["decoder_input_ids"].tolist() == [[0, 7, 8]]
    own = torch.tensor([[0, 9, 9]])
    given = prepare_inputs(tiny_t5(), batch | {"decoder_input_ids": own}, CPU)
    assert torch.equal(given["decoder_input_ids"], own)
    with pytest.raises(ValueError, match=r"the batch has no labels; its keys are \['input_ids'\]"):
        prepare_inputs(tiny_t5(), {"input_ids": batch["input_ids"]}, CPU)


def test_labels_are_left_to_a_decoder_that_has_no_method_for_them() -> None:
    model, labels = tiny_t5(), torch.tensor([[7, 8, -100]])
    type(model).prepare_decoder_input_ids_from_labels, kept = None, type(model).prepare_decoder_input_ids_from_labels
    try:
        inputs = prepare_inputs(model, {"input_ids": torch.ones(1, 3, dtype=torch.long), "labels": labels}, CPU)
    finally:
        type(model).prepare_decoder_input_ids_from_labels = kept
    assert torch.equal(inputs["labels"], labels)
    assert "decoder_input_ids" not in inputs


def test_where_examples_begin_is_told_to_models_that_can_be_told() -> None:
    batch = packed([causal_examples(2)]) | {"seq_lengths": [[1, 2]], "max_length_q": 5}
    assert set(prepare_inputs(tiny_llama(), batch, CPU)) == {"input_ids", "position_ids", "max_length_q", "use_cache"}
    assert set(prepare_inputs(positionwise(), batch, CPU)) == {"input_ids"}


@pytest.mark.parametrize(
    "mask", [torch.tensor([[1, 1, 1, 2, 2]]), torch.ones(1, 1, 5, 5), torch.tensor([[0.0, 0, 0, -1e9, -1e9]])]
)
def test_masks_of_packed_examples_are_refused(mask: torch.Tensor) -> None:
    tokens = torch.ones(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"attention_mask must have one entry a token.*; unpack the examples"):
        prepare_inputs(tiny_llama(), {"input_ids": tokens, "attention_mask": mask}, CPU)


def test_masks_of_choices_are_none_of_packed_examples() -> None:
    choices = torch.ones(2, 3, 5, dtype=torch.long)
    assert prepare_inputs(tiny_llama(), {"input_ids": choices, "attention_mask": choices}, CPU)
