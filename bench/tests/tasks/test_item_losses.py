"""Losses of single examples against the definition, one at a time, in float64."""

from __future__ import annotations

import math
from typing import Any

import datasets
import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from lora_da.loading import PreparedExamples
from lora_da_bench.tasks.item_losses import measure_item_losses
from models import PADDING, causal_examples, classified_examples, tiny_bert, tiny_gpt2, tiny_llama, with_lora


def prepared(examples: list[dict[str, torch.Tensor]]) -> PreparedExamples:
    collate: Any = DataCollatorForLanguageModeling(PADDING)
    if examples[0]["labels"].ndim == 0:
        collate = _padded_classes
    rows = [{name: value.tolist() for name, value in example.items()} for example in examples]
    return PreparedExamples(datasets.Dataset.from_list(rows), collate)


def _padded_classes(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    whole = [{"input_ids": e["input_ids"], "labels": e["input_ids"]} for e in examples]
    batch: dict[str, torch.Tensor] = DataCollatorForLanguageModeling(PADDING)(whole)
    return batch | {"labels": torch.tensor([example["labels"] for example in examples])}


def _alone(model: Any, example: dict[str, torch.Tensor]) -> tuple[float, int]:
    """The loss by the definition, one example at a time, in float64."""
    with torch.no_grad():
        logits = model(input_ids=example["input_ids"][None]).logits[0].double().log_softmax(-1)
    labels = example["labels"]
    if labels.ndim == 0:
        return -logits[labels].item(), 1
    places = [place for place in range(1, len(labels)) if labels[place] != -100]
    return -sum(logits[place - 1, labels[place]].item() for place in places), len(places)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_bert])
def test_losses_do_not_depend_on_the_batch_and_come_in_order(make: Any, size: int) -> None:
    model = make()
    examples = classified_examples(8) if make is tiny_bert else causal_examples(8)
    expected = [_alone(model, example) for example in examples]
    model.train()
    found = measure_item_losses(model, prepared(examples), size)
    assert model.training
    assert found.labels == [labels for _, labels in expected]
    assert found.losses == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert found.mean == pytest.approx(sum(loss for loss, _ in expected) / sum(labels for _, labels in expected))


def test_losses_of_an_adapter() -> None:
    examples = causal_examples(5)
    model = with_lora(tiny_llama(), trained=True)
    expected = [_alone(model, example)[0] for example in examples]
    assert measure_item_losses(model, prepared(examples), 3).losses == pytest.approx(expected, rel=1e-5)
    base = measure_item_losses(tiny_llama(), prepared(examples), 3).losses
    assert base != pytest.approx(expected, rel=1e-2)


def test_losses_that_are_no_numbers_are_returned() -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    found = measure_item_losses(model, prepared(causal_examples(2)), 2)
    assert all(math.isnan(loss) for loss in found.losses)
    assert math.isnan(found.mean)
