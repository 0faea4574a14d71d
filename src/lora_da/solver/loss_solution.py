"""The solution of one layer in the metric of the loss: the leading singular vectors of Ĝ, see ``loss_metric.py``."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_da.config import LoraDAConfig
from lora_da.solver._singular_triplets import ANGLE, leading_triplets
from lora_da.solver.factors import DampedFactor, InverseDiagonal, factorise, in_float64
from lora_da.solver.layer_init import LayerInit
from lora_da.solver.loss_metric import expected_changes, noise_edge, rows_of, shrink, step_in_span, whiten
from lora_da.statistics.sums import LayerStatistics


def solve_for_loss(
    layer: LayerStatistics, rank: int, config: LoraDAConfig, input_factor: DampedFactor, output: InverseDiagonal
) -> LayerInit:
    """Return A = V_rᵀ R⁻¹ and the B of the step within its span, in float64.

    They are computed in the input factor's precision, and once more in float64 if that can't certify the span.
    """
    unit = layer.tokens / layer.examples if config.fisher_unit == "example" else 1.0
    gradient = layer.gradient_sum / layer.examples
    whitened = whiten(gradient, output.inverse.to(gradient), input_factor, unit)
    triplets = leading_triplets(whitened, rank, config.seed)
    if triplets.angle > ANGLE and input_factor.scale.dtype != torch.float64:
        input_factor = factorise(in_float64(input_factor.matrix), input_factor.damping, "absolute")
        whitened = whiten(in_float64(gradient), output.inverse, input_factor, unit)
        triplets = leading_triplets(whitened, rank, config.seed)
    A = in_float64(rows_of(triplets.right[:, :rank], input_factor))
    sizes = in_float64(triplets.values)
    d_out, d_in = whitened.shape
    shrunken = shrink(sizes, d_out, d_in, layer.examples)
    step = step_in_span(in_float64(triplets.left[:, :rank]), shrunken[:rank], output.inverse, unit)
    energies = sizes[:rank].square().cumsum(0) / in_float64(whitened).square().sum()
    return LayerInit(
        A=A,
        delta_A=step,
        eigenvalues=expected_changes(shrunken, d_out, config.population_size or float("inf")),
        captured_energy=energies.clamp(max=1.0),
        delta_norm=_norm_of_product(step, A),
        activation_covariance=A @ in_float64(input_factor.times(A.mT.to(input_factor.scale.dtype))),
        input_mean_square=float(input_factor.matrix.diagonal().mean()),
        input_damping=input_factor.damping,
        input_raised=input_factor.raised,
        output_damping=output.damping,
        output_raised=output.raised,
        residual=triplets.residual**2,
        noise_ratios=sizes / noise_edge(d_out, d_in, layer.examples),
    )


def _norm_of_product(step: Tensor, A: Tensor) -> float:
    """The largest singular value of B A."""
    return float(torch.linalg.matrix_norm(step @ torch.linalg.qr(A.mT)[1].mT, 2))
