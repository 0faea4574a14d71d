"""Products of many tokens' vectors, summed exactly enough and computed only once where they are symmetric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

_HALVES = (torch.bfloat16, torch.float16)
_MIXED = TorchVersion(torch.__version__) >= "2.8"  # products of halves with sums in float32


def choose_sum_dtype(*vectors: Shaped[Tensor, ...]) -> torch.dtype:
    """Return the precision of sums: float64 where any of the vectors has it, else float32."""
    return torch.float64 if any(vector.dtype == torch.float64 for vector in vectors) else torch.float32


def product(
    left: Float[Tensor, "tokens m"], right: Float[Tensor, "tokens n"], dtype: torch.dtype
) -> Float[Tensor, "m n"]:
    """Return Σ l rᵀ over tokens, summed in ``dtype``.

    On a GPU, bfloat16 and float16 vectors are multiplied as they are and added up in float32: such products are exact,
    and no float32 copy is made (by torch 2.8 or later).
    """
    if _MIXED and left.is_cuda and dtype == torch.float32 and left.dtype == right.dtype and left.dtype in _HALVES:
        return torch.mm(left.mT, right, out_dtype=torch.float32)
    return left.to(dtype).mT @ right.to(dtype)


def gram(vectors: Float[Tensor, "tokens n"], dtype: torch.dtype, block: int | None = None) -> Float[Tensor, "n n"]:
    """Return Σ v vᵀ over tokens, summed in ``dtype``; the blocks above the diagonal are copied from below.

    By default a block is as wide as keeps the device busy.

    Returns:
        A matrix that is symmetric to the last bit but within the blocks on the diagonal.
    """
    block = block or (2048 if vectors.is_cuda else 256)
    width = vectors.shape[1]
    if not vectors.is_cuda:
        vectors = vectors.to(dtype)  # once, not for every block
    result = torch.empty(width, width, dtype=dtype, device=vectors.device)
    for start in range(0, width, block):
        end = min(start + block, width)
        part = product(vectors[:, start:end], vectors[:, :end], dtype)
        result[start:end, :end] = part
        result[:start, start:end] = part[:, :start].mT
    return result
