"""The equations of LoRA-DA (arXiv 2510.24561): the displacement Δ and the guidance matrix Ω.

Legend, with shapes:
    G       (d_out, d_in)   gradient of the mean example loss
    Z       (d_in, d_in)    input Fisher factor, mean of a aᵀ over the T counted tokens; Z_λ = Z + λ·I
    y⁻      (d_out,)        what is used of the inverse of the output Fisher factor Y (damped)
    S, N                    calibration examples; size of the population that fine-tuning will see
    T̄ = T/S                 counted tokens per example
    u                       the unit of the Fisher: T̄ ("example") or 1 ("token")
    α, β                    bias and variance weights

The equations:
    Δ   = − (1/u) diag(y⁻) G Z_λ⁻¹
    Ω   = β·(Σ_i y⁻_i / (N·u)) Z_λ⁻¹ + α·(C_S − Δᵀ Δ)
    C_S = (Σ_i y⁻_i) · T̄/(u²·S) · Z_λ⁻¹        "simple": the covariance of Δ's estimation noise, summed over its rows

With u = T̄ the factor T̄/(u²·S) is 1/(T̄·S). The r eigenvectors of Ω with the smallest eigenvalues span the subspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from lora_da.solver.factors import DampedFactor, factorise, try_factorise

if TYPE_CHECKING:
    from jaxtyping import Float


def displacement(
    gradient: Float[Tensor, "d_out d_in"],
    output_inverse: Float[Tensor, " d_out"],
    input_factor: DampedFactor,
    unit: float,
) -> Float[Tensor, "d_out d_in"]:
    """Return Δ = −(1/u) diag(y⁻) G Z_λ⁻¹, the natural-gradient step."""
    return -(output_inverse / unit)[:, None] * input_factor.solve(gradient.mT).mT


@dataclass(frozen=True)
class Guidance:
    """Ω as an operator: variance · Z_λ⁻¹ − bias · Δᵀ Δ.

    Attributes:
        variance: The coefficient of Z_λ⁻¹: of the variance term and of C_S.
        bias: α.
        delta: Δ.
        input_factor: Z_λ.
    """

    variance: float
    bias: float
    delta: Float[Tensor, "d_out d_in"]
    input_factor: DampedFactor

    def times(self, right: Float[Tensor, "d_in k"]) -> Float[Tensor, "d_in k"]:
        """Return Ω X without forming Ω or Z_λ⁻¹."""
        result = -self.bias * (self.delta.mT @ (self.delta @ right))
        if self.variance:
            result += self.variance * self.input_factor.solve(right)
        return result

    def preconditioner(self, shift: float) -> Callable[[Tensor], Tensor]:
        """Return X ↦ (variance·Z_λ⁻¹ + τ)⁻¹ X for a shift τ > 0: the inverse of Ω + τ without the low-rank Δᵀ Δ."""
        weight, factor = self.variance, self.input_factor
        if weight == 0:
            return lambda right: right
        unit = weight + shift * factor.damping
        matrix = (shift / unit) * factor.matrix  # damped by 1
        # In float32, which is much faster and good enough here, unless massive activations are too much for it.
        shifted = try_factorise(matrix.float(), 1.0) or factorise(matrix, 1.0, "absolute")

        def apply(right: Float[Tensor, "d_in k"]) -> Float[Tensor, "d_in k"]:
            # (variance + τ Z_λ)⁻¹ X, and Z_λ times it is what is sought
            solved = shifted.solve(right.to(shifted.scale.dtype)).to(right.dtype) / unit
            return factor.times(solved) + factor.damping * solved

        return apply

    def dense(self) -> Float[Tensor, "d_in d_in"]:
        """Return Ω as a matrix, which is symmetric."""
        matrix = -self.bias * (self.delta.mT @ self.delta)
        if self.variance:
            matrix += self.variance * self.input_factor.inverse
        return (matrix + matrix.mT) / 2


def guidance(
    delta: Float[Tensor, "d_out d_in"],
    output_inverse: Float[Tensor, " d_out"],
    input_factor: DampedFactor,
    *,
    unit: float,
    tokens_per_example: float,
    examples: int,
    population_size: float,
    bias_weight: float,
    variance_weight: float,
    sample_correction: Literal["none", "simple"],
) -> Guidance:
    """Return Ω of one layer.

    Args:
        delta: Δ.
        output_inverse: y⁻.
        input_factor: Z_λ.
        unit: u.
        tokens_per_example: T̄.
        examples: S.
        population_size: N; infinity leaves the variance term out.
        bias_weight: α.
        variance_weight: β.
        sample_correction: Whether C_S is added.
    """
    variance = variance_weight * float(output_inverse.sum()) / (population_size * unit)
    if sample_correction == "simple":
        per_sample = bias_weight * tokens_per_example / (unit**2 * examples)
        variance += per_sample * float(output_inverse.sum())
    return Guidance(variance, bias_weight, delta, input_factor)
