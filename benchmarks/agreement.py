"""How far two sets of statistics give the same LoRA-DA: compared layer by layer, as medians over layers."""

from __future__ import annotations

import dataclasses
import statistics as numbers

import torch

from lora_da import LoraDAConfig, Statistics
from lora_da.pipeline.solution import solve_layers
from lora_da.solver.layer_init import LayerInit


def solved(statistics: Statistics, rank: int) -> dict[str, LayerInit]:
    """Solve every layer in the default configuration."""
    config = dataclasses.replace(LoraDAConfig(), population_size=statistics.population_size)
    return solve_layers(statistics, dict.fromkeys(statistics.layers, rank), config, progress=False)[0]


def subspace_agreement(one: dict[str, LayerInit], other: dict[str, LayerInit]) -> dict[str, float]:
    """Principal angles between the spans of A's rows, in radians, and their overlap ‖P₁P₂‖²/r, P the projectors.

    An overlap of 1 means the same subspace, r/d_in that the two are unrelated.
    """
    bases = [{name: torch.linalg.qr(init.A.mT).Q for name, init in inits.items()} for inits in (one, other)]
    cosines = [torch.linalg.svdvals(bases[0][name].mT @ bases[1][name]).clamp(max=1) for name in one]
    return {
        "overlap": numbers.median(float(values.square().mean()) for values in cosines),
        "largest_angle": numbers.median(float(values.min().arccos()) for values in cosines),
        "smallest_angle": numbers.median(float(values.max().arccos()) for values in cosines),
    }


def update_agreement(one: dict[str, LayerInit], other: dict[str, LayerInit]) -> dict[str, float]:
    """The cosine between the updates B·A before scaling, as vectors, and the ratio of their norms."""
    pairs = [(one[name].delta_A @ one[name].A, other[name].delta_A @ other[name].A) for name in one]
    return {
        "cosine": numbers.median(_cosine(a, b) for a, b in pairs),
        "norm_ratio": numbers.median(float(b.norm() / a.norm()) for a, b in pairs),
    }


def sums_agreement(one: Statistics, other: Statistics) -> dict[str, float]:
    """The cosine between gradients of the mean loss, and the relative differences of the input factors."""
    gradients, inputs = [], []
    for name in one.layers:
        a, b = one[name], other[name]
        gradients.append(_cosine(a.gradient_sum, b.gradient_sum))
        mean_a, mean_b = a.input_sum / a.tokens, b.input_sum / b.tokens
        inputs.append(float((mean_a - mean_b).norm() / mean_a.norm()))
    return {"gradient_cosine": numbers.median(gradients), "input_factor_difference": numbers.median(inputs)}


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()))
