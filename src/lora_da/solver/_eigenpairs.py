"""The lowest eigenpairs of a symmetric operator, to a stated tolerance and with a residual that certifies it.

Small problems are solved densely. Large ones by a block Davidson method: a growing orthonormal basis, from which the
Rayleigh-Ritz pairs are taken, is extended by preconditioned residuals and restarted with the best vectors. The start
is a fixed function of the problem and a seed, so the result is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

Operator = Callable[[Tensor], Tensor]

DENSE_LIMIT = 1024
"""Up to this width a dense eigendecomposition is about as fast as iterating, however few pairs are sought."""

DENSE_RATIO = 24
"""Nor is iterating faster where the width is no more than so many times the block (measured at width 1536)."""

TOLERANCE = 1e-9
"""Largest accepted residual ‖Ω x − ω x‖ of a unit vector, relative to the largest |ω| sought."""

_GUARD = 8  # vectors beyond those sought: the last ones converge slowly without
_ROUNDS = 300


@dataclass(frozen=True)
class Eigenpairs:
    """Lowest eigenpairs, ascending.

    Attributes:
        values: The eigenvalues.
        vectors: Orthonormal columns, the largest entry of each positive.
        residual: The largest ‖Ω x − ω x‖, relative to the largest |ω| among them.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "n k"]
    residual: float


def lowest_eigenpairs(
    operator: Operator,
    start: Float[Tensor, "n m"],
    count: int,
    *,
    precondition: Callable[[float], Operator] | None = None,
    dense: Callable[[], Tensor] | None = None,
    dense_limit: int | None = None,
    tolerance: float = TOLERANCE,
) -> Eigenpairs:
    """Return the ``count`` lowest eigenpairs of a symmetric operator.

    Args:
        operator: X ↦ Ω X, for X of shape (n, k).
        start: Columns that span a first guess, with m > count; random columns will do.
        count: How many pairs.
        precondition: For a shift τ > 0, an operator X ↦ K X with K ≈ (Ω + τ)⁻¹ on the high end of the spectrum.
        dense: Gives Ω as a matrix, where it may be formed; by default it is made from ``operator``.
        dense_limit: Widths up to this are solved densely; by default :data:`DENSE_LIMIT` or, if more,
            :data:`DENSE_RATIO` times the block.
        tolerance: See :data:`TOLERANCE`. Where iterating does not reach it, the dense solution is returned.

    Raises:
        ValueError: ``count`` is above n.
    """
    n = start.shape[0]
    if count > n:
        raise ValueError(f"{count} eigenvectors of a matrix of width {n}")
    found = None
    block = count + _GUARD
    if dense_limit is None:
        dense_limit = max(DENSE_LIMIT, DENSE_RATIO * block)
    if n > max(dense_limit, 6 * block):  # narrower ones have no room for the growing basis
        found = _davidson(operator, start, count, precondition, tolerance)
    if found is None:
        matrix = dense() if dense else operator(torch.eye(n, dtype=start.dtype, device=start.device))
        values, vectors = torch.linalg.eigh(_symmetric(matrix))
        found = values[:count], vectors[:, :count]
    values, vectors = found
    vectors = _fix_signs(vectors)
    residuals = torch.linalg.vector_norm(operator(vectors) - vectors * values, dim=0)
    scale = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    return Eigenpairs(values, vectors, float(residuals.max() / scale))


def _davidson(
    operator: Operator,
    start: Tensor,
    count: int,
    precondition: Callable[[float], Operator] | None,
    tolerance: float,
) -> tuple[Tensor, Tensor] | None:
    """Values (count,) and vectors (n, count), or None if they don't converge."""
    block = count + _GUARD
    widest = min(4 * block, start.shape[0])
    basis = orthonormal(start)
    image = operator(basis)
    improve: Operator | None = None
    shift = 0.0
    for _ in range(_ROUNDS):
        values, rotation = torch.linalg.eigh(_symmetric(basis.mT @ image))
        kept = min(block, len(values))
        vectors, images = basis @ rotation[:, :kept], image @ rotation[:, :kept]
        residuals = images - vectors * values[:kept]
        scale = values[:count].abs().max()
        unconverged = torch.linalg.vector_norm(residuals, dim=0) > tolerance * scale
        if not bool(unconverged[:count].any()):
            return values[:count], vectors[:, :count]
        wanted = float(values[count - 1].abs().clamp(min=1e-6 * float(scale)))
        if precondition is not None and not shift / 3 < wanted < shift * 3:  # the first estimates can be far off
            shift, improve = wanted, precondition(wanted)
        directions = residuals[:, unconverged]
        directions = directions / torch.linalg.vector_norm(directions, dim=0)
        if improve is not None:
            directions = improve(directions)
        if basis.shape[1] + directions.shape[1] > widest:
            keep = min(2 * block, basis.shape[1])
            basis, image = basis @ rotation[:, :keep], image @ rotation[:, :keep]
        addition = orthonormal(directions, basis)
        if addition.shape[1] == 0:
            return None
        basis, image = torch.cat([basis, addition], 1), torch.cat([image, operator(addition)], 1)
    return None


def orthonormal(columns: Float[Tensor, "n k"], against: Float[Tensor, "n m"] | None = None) -> Float[Tensor, "n j"]:
    """Return an orthonormal basis of the columns, orthogonal to another one; what depends on it is left out."""
    for _ in range(2):  # once more, since the first projection loses digits
        if against is not None:
            columns = columns - against @ (against.mT @ columns)
        columns = columns / torch.linalg.vector_norm(columns, dim=0).clamp(min=torch.finfo(columns.dtype).tiny)
        columns, triangle = torch.linalg.qr(columns)
        columns = columns[:, triangle.diagonal().abs() > 1e-10]
    return columns


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


def _fix_signs(vectors: Tensor) -> Tensor:
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)
