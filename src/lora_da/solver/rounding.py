"""A and B in the precision of the adapter: what rounding takes of them, and the powers of two that keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.statistics.validity import is_finite

if TYPE_CHECKING:
    from jaxtyping import Float

_MOST = 60  # A may be divided by two so many times, and B multiplied, or the other way round


def fit_to_precision(
    A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"], precisions: tuple[torch.dtype, torch.dtype]
) -> tuple[Float[Tensor, "r d_in"], Float[Tensor, "d_out r"], int, float]:
    """Move a power of two from A to B, or back, where else their entries leave the range of the adapter's precision.

    Args:
        A: lora_A.
        B: lora_B.
        precisions: What each is going to be rounded to.

    Returns:
        A and B, whose product is as before, by how many powers of two A is smaller (0 where rounding takes no more
        than its usual part), and the largest part of a row of A or a column of B that is lost; infinite if entries
        still exceed the range.
    """
    usual = 2 * max(torch.finfo(precision).eps for precision in precisions)
    losses: dict[int, float] = {}
    for power in sorted(range(-_MOST, _MOST + 1), key=abs):
        losses[power] = max(
            _lost(A.mT * 2.0**-power, precisions[0]),
            _lost(B * 2.0**power, precisions[1]),
        )
        if losses[power] <= usual:
            break
    power = min(losses, key=lambda power: (losses[power] > usual, losses[power], abs(power)))
    return A * 2.0**-power, B * 2.0**power, power, losses[power]


def _lost(columns: Float[Tensor, "n r"], precision: torch.dtype) -> float:
    """The largest part of a column's length that rounding takes off it; infinite if the result is not finite."""
    rounded = columns.to(precision).to(columns.dtype)
    if not is_finite(rounded):
        return float("inf")
    lengths = torch.linalg.vector_norm(columns, dim=0)
    lost = torch.linalg.vector_norm(rounded - columns, dim=0) / lengths
    return float(torch.where(lengths > 0, lost, 0.0).max())
