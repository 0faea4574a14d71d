"""The leading singular triplets of a matrix by a block Krylov method, with a certificate of their span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.solver._eigenpairs import orthonormal
from lora_da.solver.factors import random_columns

if TYPE_CHECKING:
    from jaxtyping import Float

ANGLE = 1e-3
"""Largest angle between the span that is found and the exact one, in radians."""

_GUARD = 8  # columns of a block beyond those sought
_NARROW = 8  # blocks: a narrower matrix is decomposed densely
_ROUNDS = 24
_ROUNDING = 32  # times the precision's epsilon: singular values that are nothing else, relative to the largest


@dataclass(frozen=True)
class SingularTriplets:
    """Leading singular triplets, the largest first.

    Attributes:
        values: The singular values.
        left: Orthonormal columns.
        right: Orthonormal columns, the largest entry of each positive. Those of values that are zero but for rounding
            complete the others, and the left ones are zero there.
        angle: A bound on the angle between the span of the first ``certified`` right vectors and the exact one, in
            radians; infinite where values are too close to tell the vectors apart.
        residual: The largest ‖MᵀM v − σ² v‖ of a unit vector, relative to the largest σ².
    """

    values: Float[Tensor, " k"]
    left: Float[Tensor, "d_out k"]
    right: Float[Tensor, "d_in k"]
    angle: float
    residual: float


def leading_triplets(matrix: Float[Tensor, "d_out d_in"], certified: int, seed: int) -> SingularTriplets:
    """Return the first k = min(certified + 1, d_in) singular triplets, in the matrix's precision.

    Blocks of (MMᵀ)ⁱ times random columns span a growing space, from which Rayleigh-Ritz pairs of the smaller Gram
    matrix are taken, until the bound on the angle (residual over gap, Davis and Kahan) is at most :data:`ANGLE`.

    Args:
        matrix: M.
        certified: How many of the first vectors are meant by the angle.
        seed: Of the random columns.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    width, total = wide.shape[0], min(certified + 1, matrix.shape[1])
    certified, count = min(certified, width), min(certified + 1, width)
    scale = float(wide.abs().max()) or 1.0  # squares of what is small would vanish in float32
    values, vectors, residuals = _gram_pairs(wide / scale, count, certified, seed)
    sizes = values.clamp(min=0).sqrt()
    real = sizes > _ROUNDING * torch.finfo(values.dtype).eps ** 0.5 * sizes[0]
    gap = float(values[certified - 1] - values[certified]) if count > certified else float(values[-1])
    angle = float(residuals[:certified].square().sum().sqrt()) / gap if gap > 0 else float("inf")
    near = vectors[:, real]
    far = torch.linalg.qr(wide.mT @ near / (scale * sizes[real]))[0] if bool(real.any()) else wide.mT[:, :0]
    far = far * (far * (wide.mT @ near)).sum(0).sign()
    left, right = (near, far) if wide is matrix else (far, near)
    random = random_columns(matrix.shape[1], total + _GUARD, matrix, seed + 1)
    right = torch.cat([right, orthonormal(random, right)[:, : total - right.shape[1]]], 1)
    sizes = torch.cat([scale * sizes[real], sizes.new_zeros(total - int(real.sum()))])
    left = torch.cat([left, left.new_zeros(len(left), total - left.shape[1])], 1)
    signs = right.gather(0, right.abs().argmax(0, keepdim=True)).sign()
    residual = float(residuals.max() / values[0].clamp(min=torch.finfo(values.dtype).tiny))
    return SingularTriplets(sizes, left * signs, right * signs, angle, residual)


def _gram_pairs(wide: Tensor, count: int, certified: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest eigenpairs of W Wᵀ, descending, and the norms of their residuals."""
    width = len(wide)
    block = min(count + _GUARD, width)
    basis = random_columns(width, block, wide, seed)
    if width > _NARROW * block:
        basis = orthonormal(wide @ (wide.mT @ basis))
        image = wide @ (wide.mT @ basis)
        for _ in range(_ROUNDS):
            values, vectors, images = _ritz_pairs(basis, image, count)
            residuals = torch.linalg.vector_norm(images - vectors * values, dim=0)
            gap = float(values[certified - 1] - values[min(certified, count - 1)])
            if float(residuals[:certified].square().sum().sqrt()) <= ANGLE / 2 * gap:
                return values, vectors, residuals
            addition = orthonormal(image[:, -block:], basis)
            if addition.shape[1] == 0 or basis.shape[1] + addition.shape[1] > width // 2:
                break
            basis = torch.cat([basis, addition], 1)
            image = torch.cat([image, wide @ (wide.mT @ addition)], 1)
    gram = wide @ wide.mT
    values, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    return values, vectors, torch.linalg.vector_norm(gram @ vectors - vectors * values, dim=0)


def _ritz_pairs(basis: Tensor, image: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    small = basis.mT @ image
    values, rotation = torch.linalg.eigh((small + small.mT) / 2)
    values, rotation = values.flip(0)[:count], rotation.flip(1)[:, :count]
    return values, basis @ rotation, image @ rotation
