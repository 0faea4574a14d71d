"""The equations of LoRA-DA (arXiv 2510.24561): the displacement Δ and the guidance matrix Ω.

Legend, with shapes:
    G       (d_out, d_in)   gradient of the mean example loss
    Z       (d_in, d_in)    input Fisher factor, mean of a aᵀ over the T counted tokens; Z_λ = Z + λ·I
    Y_ii    (d_out,)        diagonal of the output Fisher factor, mean of g gᵀ over the tokens
    y⁻      (d_out,)        what is used of Y⁻¹ (damped)
    S, N                    calibration examples; size of the population that fine-tuning will see
    T̄ = T/S                 counted tokens per example
    u                       the unit of the Fisher: T̄ ("example") or 1 ("token")
    α, β                    bias and variance weights

The equations:
    Δ   = − (1/u) diag(y⁻) G Z_λ⁻¹
    Ω   = β·(Σ_i y⁻_i / (N·u)) Z_λ⁻¹ + α·(C_S − Δᵀ Δ)
    C_S = Σ_i (y⁻_i)²·Y_ii · T̄/(u²·S) · Z_λ⁻¹ Z Z_λ⁻¹        "exact": the covariance of Δ's estimation noise, summed
    C_S = Σ_i y⁻_i        · T̄/(u²·S) · Z_λ⁻¹                  "simple": the same without damping, for a diagonal Y

With u = T̄ the factor T̄/(u²·S) is 1/(T̄·S). The r eigenvectors of Ω with the smallest eigenvalues span the subspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lora_da.solver.factors import DampedFactor, factorise, try_factorise


def displacement(gradient: Tensor, output_inverse: Tensor, input_factor: DampedFactor, unit: float) -> Tensor:
    """Δ, the natural-gradient step.

    Args:
        gradient: G, (d_out, d_in).
        output_inverse: y⁻, (d_out,).
        input_factor: Z_λ.
        unit: u.

    Returns:
        (d_out, d_in).
    """
    return -(output_inverse / unit)[:, None] * input_factor.solve(gradient.mT).mT


@dataclass(frozen=True)
class Guidance:
    """Ω as an operator: variance · Z_λ⁻¹ + noise · Z_λ⁻¹ Z Z_λ⁻¹ − bias · Δᵀ Δ.

    Attributes:
        variance: The coefficient of Z_λ⁻¹ (the variance term, and C_S if "simple").
        noise: The coefficient of Z_λ⁻¹ Z Z_λ⁻¹ (C_S if "exact").
        bias: α.
        delta: Δ, (d_out, d_in).
        input_factor: Z_λ.
    """

    variance: float
    noise: float
    bias: float
    delta: Tensor
    input_factor: DampedFactor

    def times(self, right: Tensor) -> Tensor:
        """Ω X for X of shape (d_in, k), without forming Ω or Z_λ⁻¹."""
        result = -self.bias * (self.delta.mT @ (self.delta @ right))
        if self.variance or self.noise:
            inverse = self.input_factor.solve(right)
            result += self.variance * inverse
            if self.noise:
                result += self.noise * self.input_factor.solve(self.input_factor.times(inverse))
        return result

    def preconditioner(self, shift: float) -> Callable[[Tensor], Tensor]:
        """X ↦ (w·Z_λ⁻¹ + τ)⁻¹ X with w = variance + noise: Ω + τ without the low-rank Δᵀ Δ, or a bound of it.

        Args:
            shift: τ > 0.
        """
        weight, factor = self.variance + self.noise, self.input_factor
        if weight == 0:
            return lambda right: right
        unit = weight + shift * factor.damping
        matrix = (shift / unit) * factor.matrix  # damped by 1
        # In float32, which is much faster and good enough here, unless massive activations are too much for it.
        shifted = try_factorise(matrix.float(), 1.0) or factorise(matrix, 1.0, "absolute")

        def apply(right: Tensor) -> Tensor:
            # (w + τ Z_λ)⁻¹ X, and Z_λ times it is what is sought
            solved = shifted.solve(right.to(shifted.scale.dtype)).to(right.dtype) / unit
            return factor.times(solved) + factor.damping * solved

        return apply

    def dense(self) -> Tensor:
        """Ω as a matrix, (d_in, d_in), symmetric."""
        matrix = -self.bias * (self.delta.mT @ self.delta)
        if self.variance or self.noise:
            inverse = self.input_factor.inverse
            matrix += self.variance * inverse
            if self.noise:
                matrix += self.noise * (inverse @ self.input_factor.times(inverse))
        return (matrix + matrix.mT) / 2


def guidance(
    delta: Tensor,
    output_inverse: Tensor,
    output_diagonal: Tensor,
    input_factor: DampedFactor,
    *,
    unit: float,
    tokens_per_example: float,
    examples: int,
    population_size: float,
    bias_weight: float,
    variance_weight: float,
    sample_correction: Literal["none", "simple", "exact"],
) -> Guidance:
    """Ω of one layer.

    Args:
        delta: Δ, (d_out, d_in).
        output_inverse: y⁻, (d_out,).
        output_diagonal: Y_ii, undamped, (d_out,).
        input_factor: Z_λ.
        unit: u.
        tokens_per_example: T̄.
        examples: S.
        population_size: N; infinity leaves the variance term out.
        bias_weight: α.
        variance_weight: β.
        sample_correction: Which C_S.
    """
    variance = variance_weight * float(output_inverse.sum()) / (population_size * unit)
    noise = 0.0
    per_sample = bias_weight * tokens_per_example / (unit**2 * examples)
    if sample_correction == "simple":
        variance += per_sample * float(output_inverse.sum())
    elif sample_correction == "exact":
        noise = per_sample * float((output_inverse.square() * output_diagonal).sum())
    return Guidance(variance, noise, bias_weight, delta, input_factor)
