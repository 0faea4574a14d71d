"""How well eigenpairs satisfy Ω x = ω x, measured from the sums themselves and not by the solves that found them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.solver._accurate import DampedSum, product
from lora_da.solver.guidance import Guidance
from lora_da.statistics.sums import LayerStatistics

if TYPE_CHECKING:
    from jaxtyping import Float

_ROUNDING = 2.0**-51  # of what is added up in float64 at the end


def measure_residual(
    layer: LayerStatistics,
    guidance: Guidance,
    row_weights: Float[Tensor, " d_out"],
    A: Float[Tensor, "r d_in"],
    values: Float[Tensor, " r"],
) -> float:
    """Return the largest ‖Ω x − ω x‖ of unit vectors, relative to the largest |ω| among them.

    Ω x = v Z_λ⁻¹ x − α Z_λ⁻¹ Gᵀ diag(y⁻/u)² G Z_λ⁻¹ x with the sums' own G and Z, solved to more digits than float64
    has; where that can't be reached, how far it may be off is added.

    Args:
        layer: The sums.
        guidance: v, α and Z_λ.
        row_weights: y⁻/u.
        A: The vectors x, as rows.
        values: ω.
    """
    factor, tokens = guidance.input_factor, layer.tokens
    inverse = DampedSum(layer.input_sum.to(A.device), tokens, factor.damping, factor.solve)
    zero = torch.zeros_like(A.mT)
    first, first_error = inverse.solve((A.mT, zero))  # T⁻¹ Z_λ⁻¹ x
    # G in the variables in which the input factor's entries are alike
    scaled = layer.gradient_sum.to(A) / inverse.sizes
    sizes = inverse.sizes[:, None]
    seen = product(scaled, (sizes * first[0], sizes * first[1]))
    weights = (row_weights.square() * (tokens / layer.examples) ** 2)[:, None]
    back = product(scaled.mT, (weights * seen[0], weights * seen[1]))
    second, second_error = inverse.solve((sizes * back[0], sizes * back[1]))
    parts = (tokens * guidance.variance) * first[0], guidance.bias * second[0]
    off = torch.linalg.vector_norm(parts[0] - parts[1] - A.mT * values, dim=0)
    off = off + tokens * guidance.variance * first_error + guidance.bias * second_error
    off = off + _ROUNDING * sum(torch.linalg.vector_norm(part, dim=0) for part in parts)
    return float(off.max() / values.abs().max().clamp(min=torch.finfo(values.dtype).tiny))
