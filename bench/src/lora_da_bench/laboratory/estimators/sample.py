"""What the laboratory knows of a layer: the library's statistics of some examples, and a few moments beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_da import CollectionConfig, LayerStatistics, collect_statistics
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.corrected_eigenvalues import CorrectedFisher, CorrectedSums
from lora_da_bench.laboratory.estimators.layer_passes import see_layers
from lora_da_bench.laboratory.head import head_names

_BATCH = 8


@dataclass(frozen=True)
class InputMoments:
    """Moments of a layer's inputs that the library's statistics don't hold; T tokens of S examples.

    Attributes:
        mean: (d_in,), (1/T) Σ a.
        fourth: (1/T) Σ_tokens ‖a‖⁴, which Ledoit and Wolf's weight needs for independent tokens.
        example_square: (1/S) Σ_examples ‖Z_e‖², Z_e = (S/T) Σ_tokens a aᵀ over one example, so that Z is their mean:
            the same for independent examples.
    """

    mean: Tensor
    fourth: float
    example_square: float


@dataclass(frozen=True)
class LayerSample:
    """What is known of one layer.

    Attributes:
        name: The layer's, in the base model.
        statistics: The library's, with the full output factor, of losses summed over an example's labels.
        moments: Of its inputs.
        corrected: The Fisher information with corrected eigenvalues, in the eigenbasis of Z and that of Y ("full") or
            of its diagonal ("diagonal").
        labels: Labels of an example, which all have equally many.
        population: N, how many examples training sees.
        seed: Of the run.
    """

    name: str
    statistics: LayerStatistics
    moments: InputMoments
    corrected: Mapping[str, CorrectedFisher]
    labels: int
    population: int
    seed: int

    @property
    def gradient(self) -> Tensor:
        """G (d_out, d_in), of the mean example loss, float64."""
        return self.statistics.gradient_sum.double() / self.statistics.examples

    @property
    def input_factor(self) -> Tensor:
        """Z (d_in, d_in), float64."""
        return self.statistics.input_sum.double() / self.statistics.tokens

    @property
    def output_diagonal(self) -> Tensor:
        """diag(Y) (d_out,), float64."""
        total = self.statistics.output_sum
        return (total if total.ndim == 1 else total.diagonal()).double() / self.statistics.tokens

    @property
    def tokens_per_example(self) -> float:
        """The mean number of tokens of an example, T/S."""
        return self.statistics.tokens / self.statistics.examples


def collect_samples(model: Any, examples: Examples, population: int, seed: int) -> dict[str, LayerSample]:
    """Take the statistics of all linear layers but the head of some examples, for all subspaces and ranks.

    Args:
        model: A plain causal language model, or a classifier.
        examples: The calibration examples, S of them.
        population: N.
        seed: Of the run.
    """
    statistics = collect_statistics(
        model,
        [part.batch() for part in examples.split(_BATCH)],
        CollectionConfig(loss_reduction="sum", output_factor="full"),
        max_examples=len(examples),
        progress=False,
    )
    heads = head_names(model)
    layers = [name for name in statistics.layers if name.split(".")[0] not in heads]
    moments = {name: _MomentSums(statistics[name]) for name in layers}
    corrected = {name: CorrectedSums(statistics[name]) for name in layers}
    for seen in see_layers(model, layers, examples, _BATCH):
        for name, (a, g) in seen.items():
            moments[name].add(a)
            corrected[name].add(a, g)
    return {
        name: LayerSample(
            name,
            statistics[name],
            moments[name].finish(),
            corrected[name].finish(),
            examples.labels_each,
            population,
            seed,
        )
        for name in layers
    }


class _MomentSums:
    """The sums of a layer's input moments."""

    def __init__(self, statistics: LayerStatistics) -> None:
        self._tokens, self._examples = statistics.tokens, statistics.examples
        self._sum: Tensor | float = 0.0
        self._fourth = self._square = 0.0

    def add(self, a: Tensor) -> None:
        """Add some examples' inputs, (B, L, d_in)."""
        self._sum = self._sum + a.sum((0, 1))
        self._fourth += float(a.square().sum(2).square().sum())
        self._square += float((a @ a.mT).square().sum())  # ‖Σ a aᵀ‖² is that of the tokens' products among themselves

    def finish(self) -> InputMoments:
        mean = torch.as_tensor(self._sum) / self._tokens
        scale = (self._examples / self._tokens) ** 2
        return InputMoments(mean, self._fourth / self._tokens, scale * self._square / self._examples)


def rescale_loss(sample: LayerSample, factor: float) -> LayerStatistics:
    """The statistics that a loss ``factor`` times as large would have given: g and with it G grows by it, Y twice."""
    found = sample.statistics
    return dataclasses.replace(found, gradient_sum=found.gradient_sum * factor, output_sum=found.output_sum * factor**2)
