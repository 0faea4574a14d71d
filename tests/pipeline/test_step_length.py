"""The length of the first step: against a scan of all lengths, and on a model that its step helps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lora_da import LoraDAConfig, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.pipeline.step_length import EXAMPLES, StepLength, find_length
from models import batches_of, causal_examples, tiny_llama, with_lora

FIRST = 1 / 32
LENGTHS = [FIRST * 2.0**power for power in range(-4, 6)]


@pytest.mark.parametrize("best", LENGTHS)
def test_of_a_parabola_the_best_power_of_two_is_found(best: float) -> None:
    found = find_length(lambda length: (length - best) ** 2, FIRST)
    assert found == StepLength(best, best**2, 0.0)


@pytest.mark.parametrize(("best", "losses"), [(FIRST, 4), (FIRST / 2, 4), (2 * FIRST, 5), (FIRST / 8, 6)])
def test_a_length_near_the_first_takes_few_losses(best: float, losses: int) -> None:
    tried = []

    def loss(length: float) -> float:
        tried.append(length)
        return (length - best) ** 2

    assert find_length(loss, FIRST).length == best
    assert len(tried) == len(set(tried)) == losses


def _cliff(length: float) -> float:
    return 1 - length if length < 0.1 else math.inf


@pytest.mark.parametrize(
    ("loss", "length"),
    [
        (lambda length: 1 + length, 0.0),  # no step helps
        (lambda length: 1 + length if length < FIRST / 100 else math.nan, 0.0),
        (lambda length: 1 - length, 1.0),  # never beyond the whole step
        (_cliff, 2 * FIRST),
    ],
)
def test_no_length_that_raises_the_loss_is_taken(loss: Callable[[float], float], length: float) -> None:
    found = find_length(loss, FIRST)
    assert found.length == length
    assert found.after <= found.before == loss(0.0)


def _initialised(data: Any, **options: Any) -> tuple[Any, Any]:
    """A model with heavy statistics: many examples of one kind, so that directions lie above the noise edge."""
    model = with_lora(tiny_llama(), target_modules="all-linear", r=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = initialize_lora_da_weights(model, data, progress=False, **options)
    return model, report


EXAMPLES_OF_ONE_KIND = [example for example in causal_examples(4) for _ in range(50)]


def test_the_step_lowers_the_loss_of_the_first_examples_and_no_other_scanned_length_does_better() -> None:
    batches = batches_of(EXAMPLES_OF_ONE_KIND)
    model, report = _initialised(batches)
    assert 0 < report.step_length <= 1
    assert report.loss_after < report.loss_before
    layers, _ = find_adapted_layers(model, "default")
    few = batches_of(EXAMPLES_OF_ONE_KIND[:EXAMPLES])

    def loss(factor: float) -> float:
        for layer in layers.values():
            layer.B.data.mul_(factor)
        with torch.no_grad():
            found = sum(float(_example_losses(model, batch).sum()) for batch in few)
        for layer in layers.values():
            layer.B.data.div_(factor or 1.0)
        return found

    at_length = loss(1.0)
    assert at_length < min(loss(0.5), loss(2.0))


def _example_losses(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    return torch.nn.functional.cross_entropy(logits.mT, labels, ignore_index=-100, reduction="none").sum(1)


def test_without_examples_b_is_zero_and_that_is_said() -> None:
    batches = batches_of(EXAMPLES_OF_ONE_KIND)
    statistics = collect_statistics(tiny_llama(), batches, max_examples=1000, progress=False)
    model, report = _initialised(None, statistics=statistics)
    assert report.step_length == 0
    assert any("no examples to search" in notice for notice in report.notices)
    assert not any(layer.B.any() for layer in find_adapted_layers(model, "default")[0].values())
    _, report = _initialised(batches, statistics=statistics, measure_loss=False)
    assert report.step_length > 0
    assert "step" in report.seconds


def test_zero_starts_from_the_base_model() -> None:
    batches = batches_of(EXAMPLES_OF_ONE_KIND)
    model, report = _initialised(batches, config=LoraDAConfig(init_scale="zero"))
    searched, _ = _initialised(batches)
    assert report.step_length is None
    assert report.loss_after == pytest.approx(report.loss_before, rel=1e-6)
    layers = find_adapted_layers(searched, "default")[0]
    for name, layer in find_adapted_layers(model, "default")[0].items():
        assert not layer.B.any()
        assert torch.equal(layer.A, layers[name].A)
