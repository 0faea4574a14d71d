"""From a layer's solution to the two matrices that a LoRA layer holds.

A LoRA layer computes W a + s·B A a. "theory" makes s·B A the whole step within the subspace, and so does "searched" at
first, of which the pipeline then keeps a part; "stable" makes its size depend neither on the data's scale nor on s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lora_da.solver.layer_init import LayerInit

if TYPE_CHECKING:
    from jaxtyping import Float

# Directions in which the inputs hardly vary would otherwise get rows of A of any length, and a subspace in which they
# don't vary at all infinite ones: of the largest eigenvalue of M, and of the inputs' mean square.
_EIGENVALUE_FLOOR = 1e-4
_LEAST_MEAN_SQUARE = 1e-8


def scale_factors(
    init: LayerInit,
    *,
    scaling: float,
    init_scale: Literal["searched", "zero", "theory", "stable"],
    stable_gamma: float,
) -> tuple[Float[Tensor, "r d_in"], Float[Tensor, "d_out r"]]:
    """Return lora_A and lora_B of one layer (``method.md`` sections 3 and 4).

    With D the B for which B A is the best step within the subspace (Δ Aᵀ where A's rows are orthonormal), σ the step's
    largest singular value, γ = stable_gamma, M = A Z Aᵀ and c² = tr(Z)/(3·d_in), the mean square that the low-rank
    activations of LoRA's usual A have:

        "theory"        A                D / s
        "stable"        A/√γ             D / (σ·√γ)
        "searched"      c · M⁻¹ᐟ² A      D M¹ᐟ² / (c·s)
        "zero"          c · M⁻¹ᐟ² A      0

    Args:
        init: The layer's solution.
        scaling: PEFT's s.
        init_scale: Which row of the table.
        stable_gamma: γ.

    Returns:
        lora_A and lora_B, float64.
    """
    if init_scale == "theory":
        return init.A, init.delta_A / scaling
    if init_scale == "stable":
        norm = init.delta_norm or 1.0  # a step of zero stays zero
        return init.A / stable_gamma**0.5, init.delta_A / (norm * stable_gamma**0.5)
    eigenvalues, rotation = torch.linalg.eigh(init.activation_covariance)
    floor = max(_EIGENVALUE_FLOOR * float(eigenvalues.max()), _LEAST_MEAN_SQUARE * init.input_mean_square)
    roots = eigenvalues.clamp(min=floor).sqrt()
    size = (init.input_mean_square / 3) ** 0.5
    whiten, colour = (rotation / roots) @ rotation.mT, (rotation * roots) @ rotation.mT
    step = init.delta_A @ colour / (size * scaling)
    return size * (whiten @ init.A), step if init_scale == "searched" else torch.zeros_like(step)
