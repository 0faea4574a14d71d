"""How far two halves of a sample would have chosen the same subspace, each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.solver.factors import DampedFactor, random_columns
from lora_da.solver.loss_metric import whiten
from lora_da.statistics.sums import LayerStatistics
from lora_da.statistics.validity import is_finite

if TYPE_CHECKING:
    from jaxtyping import Float

_ROUNDS = 4  # of the power method; where they are too few, the directions are hardly told from noise anyway
_GUARD = 8


def measure_overlap(
    layer: LayerStatistics, rank: int, input_factor: DampedFactor, output_inverse: Float[Tensor, " d_out"], seed: int
) -> float | None:
    """Return ‖V₁ᵀV₂‖²/r for the leading r right singular vectors of the halves' whitened gradients.

    That is 1 where both span the same, and r/d_in where they have nothing in common. Both are whitened by the factors
    of the whole sample.

    Args:
        layer: The statistics of a layer, with those of one half.
        rank: r.
        input_factor: Z_λ of the whole sample.
        output_inverse: y⁻ of the whole sample.
        seed: Of the columns that the power method starts from.

    Returns:
        The overlap; None where no half is known, or a half's gradient is zero or beyond the range of numbers.
    """
    if layer.half_sum is None or not 0 < layer.half_examples < layer.examples:
        return None
    halves = layer.half_sum, layer.gradient_sum - layer.half_sum
    if not all(bool(half.any()) for half in halves):
        return None
    whitened = [whiten(half / half.abs().max(), output_inverse.to(half), input_factor, 1.0) for half in halves]
    if not all(is_finite(matrix) and bool(matrix.any()) for matrix in whitened):
        return None  # beyond the precision's range
    first, second = (_leading_directions(matrix, rank, seed) for matrix in whitened)
    return float((first.mT @ second).square().sum()) / first.shape[1]


def _leading_directions(matrix: Tensor, rank: int, seed: int) -> Tensor:
    """The leading right singular vectors, by block power iterations that need no gap to end."""
    matrix = matrix / matrix.abs().max()  # whose squares would leave float32's range
    block = min(rank + _GUARD, *matrix.shape)
    directions = random_columns(matrix.shape[1], block, matrix, seed)
    for _ in range(_ROUNDS):
        directions = torch.linalg.qr(matrix.mT @ (matrix @ directions))[0]
    vectors: Tensor = torch.linalg.svd(matrix @ directions, full_matrices=False)[2]
    return directions @ vectors[: min(rank, block)].mT
