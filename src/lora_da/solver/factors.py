"""Numerics of the Fisher factors: damping, scaling, factorisation, and the diagonal that the output factor gives.

Z spans ten and more orders of magnitude (massive activations), so it is scaled by its own diagonal before it is
factorised, in float64. Damping always means the unscaled factor; the scaling is only a change of variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lora_da.statistics.validity import is_finite

if TYPE_CHECKING:
    from jaxtyping import Float

DampingMode = Literal["relative", "absolute"]

# Of the mean eigenvalue. Rounding makes float32 sums indefinite by up to 1e-7 · d of it; more is no covariance.
_LARGEST_RAISED = 0.1


class SolverError(ValueError):
    """The linear algebra of a layer can't be done; the message says why."""


@contextmanager
def solver_errors() -> Iterator[None]:
    """Raise what torch's decompositions and Python's arithmetic say of numbers beyond their range as a SolverError."""
    try:
        yield
    except (torch.linalg.LinAlgError, ArithmeticError) as error:  # type: ignore[attr-defined]
        said = str(error).splitlines()[0]
        raise SolverError(f"the linear algebra fails, since the statistics' range exceeds float64 ({said})") from error


@dataclass(frozen=True)
class DampedFactor:
    """A factorised F_λ = F + λ·I, for a symmetric positive semi-definite F of shape (d, d).

    Attributes:
        matrix: F.
        damping: The λ really used.
        raised: How often the factorisation failed and λ was raised, before it succeeded.
        scale: D⁻¹ᐟ² with D = diag(F_λ).
        cholesky: L with L Lᵀ = D⁻¹ᐟ² F_λ D⁻¹ᐟ².
    """

    matrix: Float[Tensor, "d d"]
    damping: float
    raised: int
    scale: Float[Tensor, " d"]
    cholesky: Float[Tensor, "d d"]

    def solve(self, right: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
        """Return F_λ⁻¹ X."""
        return self.scale[:, None] * torch.cholesky_solve(self.scale[:, None] * right, self.cholesky)

    def divide_by_root(self, right: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
        """Return R⁻¹ X for the root R = D¹ᐟ² L, with F_λ = R Rᵀ."""
        quotient: Tensor = torch.linalg.solve_triangular(self.cholesky, self.scale[:, None] * right, upper=False)
        return quotient

    def divide_by_root_transposed(self, right: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
        """Return R⁻ᵀ X for the same root."""
        quotient: Tensor = torch.linalg.solve_triangular(self.cholesky.mT, right, upper=True)
        return self.scale[:, None] * quotient

    def times(self, right: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
        """Return F X, without damping."""
        return self.matrix @ right

    @cached_property
    def inverse(self) -> Float[Tensor, "d d"]:
        """F_λ⁻¹ itself, which is kept for the next layer with the same input."""
        inverse: Tensor = torch.cholesky_inverse(self.cholesky)
        return self.scale[:, None] * inverse * self.scale

    def inverse_diagonal(self) -> Float[Tensor, " d"]:
        """Return the diagonal of F_λ⁻¹."""
        inverse: Tensor = torch.linalg.solve_triangular(self.cholesky, torch.diag(self.scale), upper=False)
        return inverse.square().sum(0)


def absolute_damping(diagonal: Float[Tensor, " d"], damping: float, mode: DampingMode) -> float:
    """Return λ, from a damping relative to the mean eigenvalue (= the mean of the factor's diagonal) or as it is."""
    return damping * float(diagonal.mean()) if mode == "relative" else damping


def factorise(matrix: Float[Tensor, "d d"], damping: float, mode: DampingMode) -> DampedFactor:
    """Damp and factorise a Fisher factor F, symmetric and in float64; see :func:`absolute_damping`.

    If rounding has made F_λ indefinite, λ is raised tenfold until it is not, up to a tenth of the mean eigenvalue; the
    result says how often.

    Raises:
        SolverError: F is zero or not finite, or no damping helps.
    """
    diagonal = matrix.diagonal()
    mean = float(diagonal.mean())
    if not is_finite(matrix):
        raise SolverError("a Fisher factor is not finite")
    if mean <= 0:
        raise SolverError("a Fisher factor is zero: nothing reached the layer")
    absolute = absolute_damping(diagonal, damping, mode)
    raised = 0
    while (factor := try_factorise(matrix, absolute)) is None:
        higher = max(10 * absolute, 1e-12 * mean)
        if higher > _LARGEST_RAISED * mean:
            raise SolverError(
                f"a Fisher factor is not positive definite even with damping {absolute:.1e}: it is no covariance"
            )
        absolute, raised = higher, raised + 1
    return replace(factor, raised=raised)


def try_factorise(matrix: Float[Tensor, "d d"], damping: float) -> DampedFactor | None:
    """Factorise F + λ·I for an absolute λ, in the precision of F; return None if that is too low."""
    diagonal = matrix.diagonal() + damping
    if not bool((diagonal > 0).all()):
        return None
    scale = diagonal.rsqrt()
    scaled = scale[:, None] * matrix * scale
    scaled.diagonal().fill_(1.0)
    cholesky, status = torch.linalg.cholesky_ex(scaled)
    # A pivot of rounding's size means that the factor exists by luck only: its inverse would be noise.
    enough = float(cholesky.diagonal().min()) ** 2 > len(matrix) * torch.finfo(matrix.dtype).eps
    return DampedFactor(matrix, damping, 0, scale, cholesky) if int(status) == 0 and enough else None


@dataclass(frozen=True)
class InverseDiagonal:
    """y⁻, what is used of the inverse of the output factor Y (``method.md`` section 3).

    Attributes:
        inverse: y⁻, float64.
        damping: The λ' really used.
        raised: How often it had to be raised.
    """

    inverse: Float[Tensor, " d_out"]
    damping: float
    raised: int = 0


def inverse_of_diagonal(diagonal: Float[Tensor, " d_out"], damping: float, mode: DampingMode) -> InverseDiagonal:
    """Return y⁻ = 1/(Y_ii + λ') in float64, the inverse of the diagonal; see :func:`absolute_damping` for λ'.

    Raises:
        SolverError: Without damping, an entry of the diagonal is zero; or all are.
    """
    absolute = absolute_damping(diagonal, damping, mode)
    damped = diagonal + absolute
    if not bool((damped > 0).all()) or not is_finite(damped):
        raise SolverError("the output factor has zero or non-finite entries; use an output damping above 0")
    return InverseDiagonal(damped.reciprocal(), absolute)


def diagonal_of_inverse(matrix: Float[Tensor, "d_out d_out"], damping: float, mode: DampingMode) -> InverseDiagonal:
    """Return y⁻ = [(Y + λ'·I)⁻¹]_ii, the diagonal of the inverse of Y in float64; see :func:`absolute_damping` for λ'.

    Raises:
        SolverError: See :func:`factorise`.
    """
    factor = factorise(matrix, damping, mode)
    return InverseDiagonal(factor.inverse_diagonal(), factor.damping, factor.raised)


def in_float64(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the same device unless that has none."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)


def random_columns(height: int, width: int, like: Tensor, seed: int) -> Tensor:
    """Return normally distributed columns, no more than there are dimensions; the same ones for a seed everywhere."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(height, min(width, height), generator=generator, dtype=torch.float64).to(like)
