"""The solution of one layer in the metric of the parameters: the lowest eigenvectors of Ω, see ``guidance.py``."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lora_da.config import LoraDAConfig
from lora_da.solver._eigenpairs import Eigenpairs, lowest_eigenpairs, orthonormal
from lora_da.solver._residual import measure_residual
from lora_da.solver.factors import DampedFactor, InverseDiagonal, in_float64, random_columns
from lora_da.solver.guidance import Guidance, displacement, guidance
from lora_da.solver.layer_init import LayerInit
from lora_da.statistics.sums import LayerStatistics

_NORM_TOLERANCE = 1e-6  # of a residual: that of the value is its square, over the gap
_RANK_TOLERANCE = 1e-12  # of the largest eigenvalue of ΔᵀΔ: smaller ones are rounding


def solve_for_parameters(
    layer: LayerStatistics, rank: int, config: LoraDAConfig, input_factor: DampedFactor, output: InverseDiagonal
) -> LayerInit:
    """Return A, the lowest eigenvectors of Ω, and Δ Aᵀ, in float64."""
    unit = layer.tokens / layer.examples if config.fisher_unit == "example" else 1.0
    operator = _guidance_of(layer, config, input_factor, output.inverse, unit)
    pairs = _lowest_of(operator, min(rank + 1, layer.gradient_sum.shape[1]), config.seed)
    A = pairs.vectors[:, :rank].mT.contiguous()
    delta_A = operator.delta @ A.mT
    energies = delta_A.square().sum(0).cumsum(0) / operator.delta.square().sum()
    return LayerInit(
        A=A,
        delta_A=delta_A,
        eigenvalues=pairs.values,
        captured_energy=energies.clamp(max=1.0),
        delta_norm=_largest_singular_value(operator.delta, A, config.seed),
        activation_covariance=A @ input_factor.times(A.mT),
        input_mean_square=float(input_factor.matrix.diagonal().mean()),
        input_damping=input_factor.damping,
        input_raised=input_factor.raised,
        output_damping=output.damping,
        output_raised=output.raised,
        residual=measure_residual(layer, operator, output.inverse / unit, A, pairs.values[:rank]),
    )


def _guidance_of(
    layer: LayerStatistics, config: LoraDAConfig, input_factor: DampedFactor, output_inverse: Tensor, unit: float
) -> Guidance:
    """Ω, which holds Δ, of a layer's sums and the settings."""
    delta = displacement(in_float64(layer.gradient_sum) / layer.examples, output_inverse, input_factor, unit)
    return guidance(
        delta,
        output_inverse,
        input_factor,
        unit=unit,
        tokens_per_example=layer.tokens / layer.examples,
        examples=layer.examples,
        population_size=config.population_size or float("inf"),
        bias_weight=config.bias_weight,
        variance_weight=config.variance_weight,
        sample_correction=config.sample_correction,
    )


def _lowest_of(operator: Guidance, count: int, seed: int) -> Eigenpairs:
    """The lowest eigenpairs of Ω, from a start that holds what Δᵀ Δ amplifies and, for the rest, random directions."""
    random = random_columns(operator.delta.shape[1], count + 8, operator.delta, seed)
    start = torch.cat([operator.delta.mT @ (operator.delta @ random), random], 1)
    pairs = lowest_eigenpairs(operator.times, start, count, precondition=operator.preconditioner, dense=operator.dense)
    if operator.variance:
        return pairs
    # Ω = −α ΔᵀΔ says nothing about its null space, where a dense decomposition would choose for itself.
    null = pairs.values >= -_RANK_TOLERANCE * pairs.values[0].abs()
    completion = orthonormal(random, pairs.vectors[:, ~null])[:, : int(null.sum())]
    return dataclasses.replace(pairs, vectors=torch.cat([pairs.vectors[:, ~null], completion], 1))


def _largest_singular_value(delta: Tensor, A: Tensor, seed: int) -> float:
    """σ of Δ; the subspace that was found, where Δ is large, is the first guess."""
    wide, guess = (delta, delta @ A.mT) if delta.shape[0] <= delta.shape[1] else (delta.mT, A.mT)
    start = torch.cat([guess, random_columns(wide.shape[0], 9, wide, seed)], 1)
    pairs = lowest_eigenpairs(
        lambda right: -(wide @ (wide.mT @ right)), start, 1, dense_limit=0, tolerance=_NORM_TOLERANCE
    )
    return float(pairs.values[0].abs().sqrt())
