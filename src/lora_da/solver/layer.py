"""From the statistics of one layer to its LoRA subspace and starting point."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.config import LoraDAConfig
from lora_da.solver._eigenpairs import Eigenpairs, lowest_eigenpairs, orthonormal
from lora_da.solver.factors import (
    DampedFactor,
    InverseDiagonal,
    SolverError,
    diagonal_of_inverse,
    factorise,
    inverse_of_diagonal,
)
from lora_da.solver.guidance import Guidance, displacement, guidance
from lora_da.statistics.sums import LayerStatistics

if TYPE_CHECKING:
    from jaxtyping import Float

_NORM_TOLERANCE = 1e-6  # of a residual: that of the value is its square, over the gap
_RANK_TOLERANCE = 1e-12  # of the largest eigenvalue of ΔᵀΔ: smaller ones are rounding


@dataclass(frozen=True)
class LayerInit:
    """The solution of one layer, before any scaling; its tensors are in float64.

    Attributes:
        A: Orthonormal rows that span the subspace.
        delta_A: Δ Aᵀ.
        eigenvalues: The r lowest eigenvalues of Ω and, if there is one, the next, so k = min(r + 1, d_in).
        captured_energy: The share ‖Δ A_kᵀ‖²/‖Δ‖² of the first k rows.
        delta_norm: σ, the largest singular value of Δ.
        activation_covariance: M = A Z Aᵀ.
        input_mean_square: tr(Z)/d_in.
        input_damping: λ really used, absolute; ``input_raised``: how often it had to be raised.
        output_damping: λ' really used, absolute; ``output_raised``: the same.
        residual: The largest ‖Ω x − ω x‖ of the r eigenvectors, relative to the largest |ω|.
    """

    A: Float[Tensor, "r d_in"]
    delta_A: Float[Tensor, "d_out r"]
    eigenvalues: Float[Tensor, " k"]
    captured_energy: Float[Tensor, " r"]
    delta_norm: float
    activation_covariance: Float[Tensor, "r r"]
    input_mean_square: float
    input_damping: float
    input_raised: int
    output_damping: float
    output_raised: int
    residual: float


def check_population(config: LoraDAConfig, population_size: int | None) -> None:
    """Check that the population size is known where the settings depend on it.

    Raises:
        ValueError: It is needed and not known.
    """
    if population_size is None and config.needs_population_size:
        raise ValueError(
            "the size of the population (how many examples fine-tuning will see) is not known, and these settings "
            "depend on it: set LoraDAConfig.population_size"
        )


def solver_bytes(d_out: int, d_in: int, *, full: bool = False) -> int:
    """Return roughly the bytes that solving a layer takes beside its sums.

    In float64 that are the input factor, its Cholesky factor or inverse, and a copy while they are made, Δ and two of
    its products; in float32 the preconditioner. With the full output factor that, its Cholesky factor and inverse too.
    """
    return 8 * (4 * d_in**2 + 3 * d_in * d_out + (4 * d_out**2 if full else 0))


def factorise_input(layer: LayerStatistics, config: LoraDAConfig) -> DampedFactor:
    """Return the damped input factor Z_λ of a layer, to be shared by all layers that have the same input sum.

    Raises:
        SolverError: The layer has seen no token, or its input factor can't be factorised.
    """
    if layer.tokens == 0:
        raise SolverError("no token reached the layer")
    return factorise(_float64(layer.input_sum) / layer.tokens, config.input_damping, config.damping_mode)


def solve_layer(
    layer: LayerStatistics,
    rank: int,
    config: LoraDAConfig,
    *,
    input_factor: DampedFactor | None = None,
) -> LayerInit | None:
    """Solve for the subspace and the starting point of one layer; see ``guidance.py`` for the equations.

    Everything is done in float64, on the statistics' device or, where that has no float64, on the CPU.

    Args:
        layer: Its statistics.
        rank: r.
        config: The settings; ``population_size`` None leaves the variance term out where that is allowed.
        input_factor: What :func:`factorise_input` gave, if it is at hand.

    Returns:
        The solution, or None if Δ is zero: the data then say nothing about this layer.

    Raises:
        ValueError: The rank is not between 1 and d_in; the statistics lack the full output factor that the settings
            need; or the population size is missing.
        SolverError: The statistics are unusable (not finite, no tokens, no covariance).
    """
    _check_layer(layer, rank)
    check_population(config, config.population_size)
    if not bool(layer.gradient_sum.any()):  # then the factors are often zero too, and can't be inverted
        return None
    input_factor = input_factor or factorise_input(layer, config)
    output = _invert_output_factor(layer, config)
    operator = _guidance_of(layer, config, input_factor, output.inverse)
    pairs = _lowest_of(operator, min(rank + 1, layer.gradient_sum.shape[1]), config.seed)
    A = pairs.vectors[:, :rank].mT.contiguous()
    delta_A = operator.delta @ A.mT
    energies = delta_A.square().sum(0).cumsum(0) / operator.delta.square().sum()
    init = LayerInit(
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
        residual=pairs.residual,
    )
    for value in (init.A, init.delta_A, init.eigenvalues, init.activation_covariance):
        if not bool(torch.isfinite(value).all()):
            raise SolverError("the solution is not finite: the statistics' range exceeds float64")
    return init


def _check_layer(layer: LayerStatistics, rank: int) -> None:
    d_in = layer.gradient_sum.shape[1]
    if not 1 <= rank <= d_in:
        raise ValueError(f"rank {rank} is not between 1 and the layer's input width {d_in}")
    for name, tensor in (("gradient", layer.gradient_sum), ("output factor", layer.output_sum)):
        if not bool(torch.isfinite(tensor).all()):
            raise SolverError(f"the {name} is not finite")


def _invert_output_factor(layer: LayerStatistics, config: LoraDAConfig) -> InverseDiagonal:
    """y⁻, as the settings ask for it."""
    output = layer.output_sum
    if config.output_factor == "inverse_of_diagonal":
        diagonal = _float64(output.diagonal() if output.ndim == 2 else output) / layer.tokens
        return inverse_of_diagonal(diagonal, config.output_damping, config.damping_mode)
    if output.ndim != 2:
        raise ValueError(
            "the settings need the diagonal of the inverse output factor, but the statistics hold only the diagonal of "
            'the factor itself: collect with CollectionConfig(output_factor="full"), as the preset "paper" does'
        )
    return diagonal_of_inverse(_float64(output) / layer.tokens, config.output_damping, config.damping_mode)


def _guidance_of(
    layer: LayerStatistics, config: LoraDAConfig, input_factor: DampedFactor, output_inverse: Tensor
) -> Guidance:
    """Ω, which holds Δ, of a layer's sums and the settings."""
    tokens_per_example = layer.tokens / layer.examples
    unit = tokens_per_example if config.fisher_unit == "example" else 1.0
    delta = displacement(_float64(layer.gradient_sum) / layer.examples, output_inverse, input_factor, unit)
    return guidance(
        delta,
        output_inverse,
        input_factor,
        unit=unit,
        tokens_per_example=tokens_per_example,
        examples=layer.examples,
        population_size=config.population_size or float("inf"),
        bias_weight=config.bias_weight,
        variance_weight=config.variance_weight,
        sample_correction=config.sample_correction,
    )


def _lowest_of(operator: Guidance, count: int, seed: int) -> Eigenpairs:
    """The lowest eigenpairs of Ω, from a start that holds what Δᵀ Δ amplifies and, for the rest, random directions."""
    random = _random_columns(operator.delta, operator.delta.shape[1], count + 8, seed)
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
    start = torch.cat([guess, _random_columns(wide, wide.shape[0], 9, seed)], 1)
    pairs = lowest_eigenpairs(
        lambda right: -(wide @ (wide.mT @ right)), start, 1, dense_limit=0, tolerance=_NORM_TOLERANCE
    )
    return float(pairs.values[0].abs().sqrt())


def _random_columns(like: Tensor, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(height, min(width, height), generator=generator, dtype=torch.float64).to(like.device)


def _float64(tensor: Tensor) -> Tensor:
    """In float64, on the same device unless that has none."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)
