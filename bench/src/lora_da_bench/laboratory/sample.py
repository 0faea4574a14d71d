"""What the laboratory knows of a layer: the library's statistics of some blocks, and a few moments of its inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_da import CollectionConfig, LayerStatistics, collect_statistics

_BATCH = 8


@dataclass(frozen=True)
class InputMoments:
    """Moments of a layer's inputs that the library's statistics don't hold; T tokens of S examples.

    Attributes:
        mean: (d_in,), (1/T) Σ a.
        fourth: (1/T) Σ_tokens ‖a‖⁴, which Ledoit and Wolf's weight needs for independent tokens.
        example_square: (1/S) Σ_examples ‖Z_e‖², Z_e the second moment of one example's tokens: the same for
            independent examples.
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
        labels: Labels of an example, which all have equally many.
        population: N, how many examples training sees.
        seed: Of the run.
    """

    name: str
    statistics: LayerStatistics
    moments: InputMoments
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


def collect_samples(model: nn.Module, blocks: Tensor, population: int, seed: int) -> dict[str, LayerSample]:
    """Take the statistics of all linear layers but the head of some blocks, for all subspaces and ranks.

    Args:
        model: A plain causal language model.
        blocks: (S, length), the calibration blocks.
        population: N.
        seed: Of the run.
    """
    statistics = collect_statistics(
        model,
        [{"input_ids": part, "labels": part} for part in blocks.split(_BATCH)],
        CollectionConfig(loss_reduction="sum", output_factor="full"),
        max_examples=len(blocks),
        progress=False,
    )
    moments = _collect_moments(model, blocks, statistics.layers)
    return {
        name: LayerSample(name, statistics[name], moments[name], blocks.shape[1] - 1, population, seed)
        for name in statistics.layers
    }


def _collect_moments(model: nn.Module, blocks: Tensor, layers: Sequence[str]) -> dict[str, InputMoments]:
    """Run forward once, and add up what reaches each layer, in float64."""
    sums: dict[str, list[Any]] = {name: [0.0, 0.0, 0.0] for name in layers}

    def adder(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def add(_: Any, inputs: tuple[Tensor, ...]) -> None:
            a = inputs[0].double()
            grams = a.mT @ a / a.shape[1]
            for index, value in enumerate((a.sum((0, 1)), a.square().sum(2).square().sum(), grams.square().sum())):
                sums[name][index] = sums[name][index] + value

        return add

    with ExitStack() as stack, torch.no_grad():
        for name in sums:
            stack.callback(model.get_submodule(name).register_forward_pre_hook(adder(name)).remove)
        for part in blocks.split(_BATCH):
            model(input_ids=part, use_cache=False)
    return {
        name: InputMoments(mean / blocks.numel(), float(fourth) / blocks.numel(), float(square) / len(blocks))
        for name, (mean, fourth, square) in sums.items()
    }


def rescale_loss(sample: LayerSample, factor: float) -> LayerStatistics:
    """The statistics that a loss ``factor`` times as large would have given: g and with it G grows by it, Y twice."""
    found = sample.statistics
    return dataclasses.replace(found, gradient_sum=found.gradient_sum * factor, output_sum=found.output_sum * factor**2)
