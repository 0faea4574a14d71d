"""From the statistics of one layer to its LoRA subspace and starting point."""

from __future__ import annotations

import dataclasses

from lora_da.config import LoraDAConfig
from lora_da.solver.factors import (
    DampedFactor,
    InverseDiagonal,
    SolverError,
    absolute_damping,
    diagonal_of_inverse,
    factorise,
    in_float64,
    inverse_of_diagonal,
    solver_errors,
    try_factorise,
)
from lora_da.solver.half_overlap import measure_overlap
from lora_da.solver.layer_init import LayerInit
from lora_da.solver.loss_solution import solve_for_loss
from lora_da.solver.parameter_solution import solve_for_parameters
from lora_da.statistics.sums import LayerStatistics
from lora_da.statistics.validity import find_fault, is_finite


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
        SolverError: The layer's sums can't be statistics, or its input factor can't be factorised.
    """
    check_layer(layer)
    if config.metric == "loss":
        # With the damping that this metric takes float32 is enough, and where it is not the factorisation says so.
        matrix = layer.input_sum.float() / layer.tokens
        factor = try_factorise(matrix, absolute_damping(matrix.diagonal(), config.input_damping, config.damping_mode))
        if factor is not None:
            return factor
    return factorise(in_float64(layer.input_sum) / layer.tokens, config.input_damping, config.damping_mode)


def solve_layer(
    layer: LayerStatistics,
    rank: int,
    config: LoraDAConfig,
    *,
    input_factor: DampedFactor | None = None,
) -> LayerInit | None:
    """Solve for the subspace and the starting point of one layer.

    The equations stand in ``guidance.py`` and ``loss_metric.py``, for either metric.
    Everything is done in float64, on the statistics' device or, where that has no float64, on the CPU; in the metric
    of the loss in float32, unless that can't tell the subspace to a thousandth of a radian.

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
        SolverError: The statistics are unusable (not finite, no tokens, no covariance), or their range is too large.
    """
    d_in = layer.gradient_sum.shape[-1]
    if not 1 <= rank <= d_in:
        raise ValueError(f"rank {rank} is not between 1 and the layer's input width {d_in}")
    check_layer(layer, input_known=input_factor is not None)
    check_population(config, config.population_size)
    if not bool(layer.gradient_sum.any()):  # then the factors are often zero too, and can't be inverted
        return None
    solve = solve_for_loss if config.metric == "loss" else solve_for_parameters
    with solver_errors():
        input_factor = input_factor or factorise_input(layer, config)
        output = invert_output_factor(layer, config)
        init = solve(layer, rank, config, input_factor, output)
        overlap = measure_overlap(layer, rank, input_factor, output.inverse, config.seed)
    for value in (init.A, init.delta_A, init.eigenvalues, init.activation_covariance):
        if not is_finite(value):
            raise SolverError("the solution is not finite: the statistics' range exceeds float64")
    return dataclasses.replace(init, half_overlap=overlap)


def check_layer(layer: LayerStatistics, *, input_known: bool = False) -> None:
    """Refuse sums that can't be statistics, or that no token has reached.

    Args:
        layer: Its statistics.
        input_known: Whether the entries of the input sum have been checked already.

    Raises:
        SolverError: The message says why.
    """
    sums = layer.gradient_sum, layer.input_sum, layer.output_sum
    fault = find_fault(*sums, layer.tokens, layer.examples, input_known=input_known)
    if fault is None and layer.tokens == 0:
        fault = "no token reached the layer"
    if fault is not None:
        raise SolverError(fault)


def invert_output_factor(layer: LayerStatistics, config: LoraDAConfig) -> InverseDiagonal:
    """Return y⁻, as the settings ask for it."""
    output = layer.output_sum
    if config.output_factor == "inverse_of_diagonal":
        diagonal = in_float64(output.diagonal() if output.ndim == 2 else output) / layer.tokens
        return inverse_of_diagonal(diagonal, config.output_damping, config.damping_mode)
    if output.ndim != 2:
        raise ValueError(
            "the settings need the diagonal of the inverse output factor, but the statistics hold only the diagonal of "
            'the factor itself: collect with CollectionConfig(output_factor="full"), as the preset "paper" does'
        )
    return diagonal_of_inverse(in_float64(output) / layer.tokens, config.output_damping, config.damping_mode)
