"""Products and solutions beyond float64, against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from lora_da.solver._accurate import DampedSum, Pair, add, product, times
from lora_da.solver.factors import factorise
from oracles import randn


def exact(pair: Pair) -> list[Fraction]:
    return [
        Fraction(high) + Fraction(low) for high, low in zip(*(part.flatten().tolist() for part in pair), strict=True)
    ]


def dot(row: Tensor, right: list[Fraction]) -> Fraction:
    return sum((Fraction(entry) * other for entry, other in zip(row.tolist(), right, strict=True)), Fraction(0))


def test_sums_and_products_with_their_rounding() -> None:
    first, second = randn(0, 50), 1e-9 * randn(1, 50)
    for found, p, q in zip(exact(add(first, second)), first.tolist(), second.tolist(), strict=True):
        assert found == Fraction(p) + Fraction(q)
    for found, p in zip(exact(times(1 / 3, first)), first.tolist(), strict=True):
        assert found == Fraction(1 / 3) * Fraction(p)


@pytest.mark.parametrize("rows", [1, 40, 1100])
def test_a_product_that_cancels(rows: int) -> None:
    left, right = randn(0, rows, 30), (randn(1, 30, 1), 1e-17 * randn(2, 30, 1))
    left[:, -1] = -(left[:, :-1] @ right[0][:-1, 0]) / right[0][-1, 0]
    column = exact(right)
    for index, found in list(enumerate(exact(product(left, right))))[:50]:
        assert abs(found - dot(left[index], column)) < Fraction(1, 2**70)


@pytest.mark.parametrize("condition", [1, 6, 11])
def test_solutions_of_badly_conditioned_sums(condition: int) -> None:
    basis = torch.linalg.qr(randn(0, 12, 12))[0]
    matrix = (basis * torch.logspace(0, -condition, 12, dtype=torch.float64)) @ basis.T * 40
    matrix = (matrix + matrix.T) / 2
    factor = factorise(matrix / 40, 1e-14, "absolute")
    right = randn(1, 12, 2)
    inverse = DampedSum(matrix, 40, factor.damping, factor.solve)
    found, off = inverse.solve((right, torch.zeros_like(right)))
    assert float(off.max()) <= 2.0**-50 * float(found[0].norm())
    for column in range(2):
        solution = exact((found[0][:, column], found[1][:, column]))
        for row in range(12):
            back = dot(matrix[row], solution) + 40 * Fraction(factor.damping) * solution[row]
            assert abs(back - Fraction(float(right[row, column]))) < Fraction(1, 2**58)
