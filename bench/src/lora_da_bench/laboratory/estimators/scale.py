"""One scale for every A, so that methods differ by the span of A alone."""

from __future__ import annotations

import torch
from torch import Tensor

_EIGENVALUE_FLOOR = 1e-4  # of the largest eigenvalue of A Z Aᵀ: what the library's scale "searched" has

_INDEPENDENCE = 1e-10  # least singular value of unit rows: below it, rounding spans a dimension


def whiten_outputs(rows: Tensor, Z: Tensor) -> Tensor:
    """Return A = c·(R Z Rᵀ)^-½ R, whose outputs A a are white and as large as those of LoRA's usual A.

    R is an orthonormal basis of the rows and c² = tr(Z)/(3·d_in), as in the library's scale "searched". Where the
    inputs hardly vary along the span, eigenvalues of R Z Rᵀ are raised to 1e-4 of the largest, and outputs stay smaller
    than white.

    Args:
        rows: (r, d_in), any basis of the span; float64.
        Z: (d_in, d_in), the inputs' second moment.

    Raises:
        ValueError: The rows are linearly dependent, or not finite.
    """
    unit = rows / rows.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(unit).all()) or float(torch.linalg.svdvals(unit)[-1]) < _INDEPENDENCE:
        raise ValueError(f"{len(rows)} rows of A span a space of fewer dimensions, or are not finite")
    basis = torch.linalg.qr(rows.mT).Q.mT
    values, vectors = torch.linalg.eigh(basis @ Z @ basis.mT)
    roots = values.clamp(min=_EIGENVALUE_FLOOR * float(values.max())).sqrt()
    size = (Z.diagonal().mean() / 3).sqrt()
    white: Tensor = size * (vectors / roots) @ vectors.mT @ basis
    return white
