"""The equations in the metric of the loss: the whitened gradient, what of it is real, and the rows that keep it.

With J = u·diag(1/y⁻) ⊗ Z_λ as the Fisher information of one example, a change Δ of the weights is expected to change an
example's loss by ⟨G, Δ⟩ + ½⟨Δ, J Δ⟩; in whitened coordinates by ⟨Ĝ, Δ̂⟩ + ½‖Δ̂‖². docs/how_it_works.md derives it.

Legend, with shapes (G, Z_λ, y⁻, u, S and N as in ``guidance.py``):
    R            (d_in, d_in)    a root of the input factor: Z_λ = R Rᵀ
    Ĝ = U Σ Vᵀ   (d_out, d_in)   the whitened gradient, in nats^½, and its singular value decomposition
    Δ̂            (d_out, d_in)   the whitened displacement
    η(σ)                         a singular value without what noise has added to it
    A, B         (r, d_in), (d_out, r)

The equations:
    Ĝ = u^-½ diag(y⁻)^½ G R⁻ᵀ                       Δ̂ = u^½ diag(y⁻)^-½ Δ R
    A = V_rᵀ R⁻¹                                    B = −u^-½ diag(y⁻)^½ U_r η(Σ_r)
    excess loss of a frozen A after N examples:     ½ Σ_{k>r} σ_k² + r·d_out/(2N)

So A Z_λ Aᵀ = I, and B A is the step that is best within A's span, as far as it is real.

The entries of Ĝ's noise have the variance 1/S. A direction is real if its σ lies above the largest singular value of
such noise, (√d_out + √d_in)/√S, and worth learning if η(σ)² > d_out/N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.solver.factors import DampedFactor

if TYPE_CHECKING:
    from jaxtyping import Float


def whiten(
    gradient: Float[Tensor, "d_out d_in"],
    output_inverse: Float[Tensor, " d_out"],
    input_factor: DampedFactor,
    unit: float,
) -> Float[Tensor, "d_out d_in"]:
    """Return Ĝ = u^-½ diag(y⁻)^½ G R⁻ᵀ, in the input factor's precision."""
    rows = (output_inverse / unit).sqrt()[:, None] * gradient
    return input_factor.divide_by_root(rows.to(input_factor.scale.dtype).mT).mT


def rows_of(directions: Float[Tensor, "d_in r"], input_factor: DampedFactor) -> Float[Tensor, "r d_in"]:
    """Return A = V_rᵀ R⁻¹, whose outputs are white."""
    return input_factor.divide_by_root_transposed(directions).mT


def step_in_span(
    left: Float[Tensor, "d_out r"],
    singular_values: Float[Tensor, " r"],
    output_inverse: Float[Tensor, " d_out"],
    unit: float,
) -> Float[Tensor, "d_out r"]:
    """Return B = −u^-½ diag(y⁻)^½ U_r η(Σ_r), so that B A is the best step within A's span."""
    return -(output_inverse / unit).sqrt()[:, None] * left * singular_values


def noise_edge(d_out: int, d_in: int, examples: int) -> float:
    """Return the largest singular value of noise alone, (√d_out + √d_in)/√S (Marchenko and Pastur)."""
    return float((d_out**0.5 + d_in**0.5) / examples**0.5)


def shrink(singular_values: Float[Tensor, " k"], d_out: int, d_in: int, examples: int) -> Float[Tensor, " k"]:
    """Return η(σ), the estimate of the singular values without noise that is best for the sum of squared errors.

    With m = d_out/S and n = d_in/S it is √((σ² − m − n)² − 4mn)/σ above the noise edge, and zero below (Gavish and
    Donoho, "Optimal shrinkage of singular values", 2017).
    """
    m, n = d_out / examples, d_in / examples
    squares = singular_values.square()
    inner = ((squares - m - n).square() - 4 * m * n).clamp(min=0).sqrt() / singular_values.clamp(min=1e-300)
    return torch.where(singular_values > noise_edge(d_out, d_in, examples), inner, 0.0)


def expected_changes(
    shrunken: Float[Tensor, " k"], d_out: int, population_size: float = float("inf")
) -> Float[Tensor, " k"]:
    """Return by how much each direction is expected to change an example's loss after N examples, in nats.

    That is −½η² for what there is to learn, and d_out/(2N) for the noise that is learnt with it; negative ones are
    worth learning.
    """
    return d_out / (2 * population_size) - shrunken.square() / 2
