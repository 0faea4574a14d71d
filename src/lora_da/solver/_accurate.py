"""Products and solutions with about 75 bits, by which what float64 has computed is judged.

Matrices are cut into slices of so few bits that float64 multiplies and adds them without rounding (Ozaki, Ogita, Oishi
and Rump, "Error-free transformations of matrix multiplication", 2012); single numbers are added and multiplied with
their rounding errors (Dekker, 1971), and solutions are refined by residuals that are known that well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

Pair = tuple[Tensor, Tensor]
"""A number as the sum of two, of which the second is below the rounding of the first."""

_SLICES = 4
_ROWS = 1024  # cut at once
_SPLIT = 2.0**27 + 1
_ROUNDS = 12
_EXACT = 2.0**-60  # of a solution: a smaller change is none


def add(first: Tensor, *others: Tensor) -> Pair:
    """Return a sum with its rounding error, the largest summand first."""
    total, error = first, torch.zeros_like(first)
    for other in others:
        sum_ = total + other
        part = sum_ - total
        error = error + ((total - (sum_ - part)) + (other - part))
        total = sum_
    return total, error


def times(factor: float, right: Tensor) -> Pair:
    """Return a product with a number, and its rounding error."""
    high = _SPLIT * factor - (_SPLIT * factor - factor)
    first = _SPLIT * right - (_SPLIT * right - right)
    product, low, second = factor * right, factor - high, right - first
    return product, ((high * first - product) + high * second + low * first) + low * second


def product(left: Float[Tensor, "m n"], right: Pair) -> Pair:
    """Return L R, with an error of about 2⁻⁷⁵ of the largest entries of L's row and R's column."""
    bits = (53 - math.ceil(math.log2(max(left.shape[1], 2)))) // 2
    columns = _cut(*right, bits, 0)
    totals: list[Pair] = []
    for start in range(0, len(left), _ROWS):
        block = left[start : start + _ROWS].double()
        rows = _cut(block, torch.zeros_like(block), bits, 1)
        totals.append(add(*(rows[i] @ columns[k - i] for k in range(_SLICES) for i in range(k + 1))))
    return torch.cat([high for high, _ in totals]), torch.cat([low for _, low in totals])


def _cut(high: Tensor, low: Tensor, bits: int, dim: int) -> list[Tensor]:
    """Slices that add up to a matrix, each of so many bits below the one before."""
    largest = high.abs().amax(dim, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    unit = largest / torch.frexp(largest).mantissa  # a power of two
    slices, rest = [], high
    for number in range(_SLICES):
        unit = unit * 2.0**-bits
        above = unit * 1.5 * 2.0**52  # where float64 has no digits below the unit
        slices.append((rest + above) - above)
        rest = rest - slices[-1]
        if number == 1:  # there is room for it now
            rest = rest + low
    return slices


class DampedSum:
    """Σ a aᵀ + T·λ·I with Σ a aᵀ as it was collected, and what float64 knows of its inverse."""

    def __init__(
        self, matrix: Float[Tensor, "d d"], tokens: int, damping: float, solve: Callable[[Tensor], Tensor]
    ) -> None:
        """Take Σ a aᵀ, T, λ and X ↦ (Σ a aᵀ/T + λ·I)⁻¹ X as float64 has it."""
        self._tokens, self._solve = tokens, solve
        exact = Fraction(damping) * tokens
        self._damping = float(exact), float(exact - Fraction(float(exact)))
        roots = (matrix.diagonal().double() + self._damping[0]).sqrt()
        self.sizes = roots / torch.frexp(roots).mantissa  # powers of two, by which entries are made alike
        self._scaled = matrix.double() / self.sizes[:, None] / self.sizes

    def times(self, right: Pair) -> Pair:
        """Return (Σ a aᵀ + T·λ·I) X."""
        sizes = self.sizes[:, None]
        high, low = product(self._scaled, (sizes * right[0], sizes * right[1]))
        damped, error = times(self._damping[0], right[0])
        total, rounding = add(sizes * high, damped)
        return total, sizes * low + rounding + error + self._damping[0] * right[1] + self._damping[1] * right[0]

    def solve(self, right: Pair) -> tuple[Pair, Float[Tensor, " k"]]:
        """Return X with (Σ a aᵀ + T·λ·I) X = R, and how far its columns may be off."""
        found = add(self._solve(right[0]) / self._tokens)
        size = before = torch.linalg.vector_norm(found[0], dim=0)
        off = before
        for _ in range(_ROUNDS):
            reached = self.times(found)
            rest, error = add(right[0], -reached[0])
            step = self._solve(rest + (error + right[1] - reached[1])) / self._tokens
            found = _normal(found[0], step, found[1])
            change = torch.linalg.vector_norm(step, dim=0)
            smaller = (change / before.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1.0)
            off, before = change * smaller, change  # as much smaller as this step was than the one before
            if bool((off <= _EXACT * size).all()) or bool((smaller > 0.5).any()):
                break
        return found, off


def _normal(high: Tensor, step: Tensor, low: Tensor) -> Pair:
    total, error = add(high, step)
    return add(total, error + low)
