"""Powers of two moved between A and B, where the adapter's precision asks for it."""

from __future__ import annotations

import pytest
import torch

from lora_da.solver.rounding import fit_to_precision
from oracles import randn

HALVES = (torch.float16, torch.float16)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float32])
def test_ordinary_factors_stay_as_they_are(precision: torch.dtype) -> None:
    A, B = randn(0, 4, 30), 1e-2 * randn(1, 20, 4)
    B[:, 2] = 0  # a direction that is not worth learning
    found_A, found_B, power, lost = fit_to_precision(A, B, (precision, precision))
    assert torch.equal(found_A, A)
    assert torch.equal(found_B, B)
    assert power == 0
    assert 0 < lost < torch.finfo(precision).eps


@pytest.mark.parametrize(
    ("size_A", "size_B", "sign"), [(1.0, 1e-8, 1), (1e-7, 10.0, -1), (1e-2, 1e6, -1), (1e6, 1e-3, 1)]
)
def test_what_one_factor_can_not_hold_the_other_takes(size_A: float, size_B: float, sign: int) -> None:
    A, B = size_A * randn(0, 4, 30), size_B * randn(1, 20, 4)
    found_A, found_B, power, lost = fit_to_precision(A, B, HALVES)
    assert power * sign > 0
    assert lost <= 2 * torch.finfo(torch.float16).eps
    assert torch.equal(found_B @ found_A, B @ A)
    wanted = B @ A
    rounded = found_B.half().double() @ found_A.half().double()
    assert float((rounded - wanted).norm() / wanted.norm()) < 2e-3


def test_what_neither_can_hold_is_told() -> None:
    A, B = 1e-7 * randn(0, 4, 30), 1e-7 * randn(1, 20, 4)
    assert 0.02 < fit_to_precision(A, B, HALVES)[3] <= 1
    assert fit_to_precision(1e9 * A, 1e18 * B, HALVES)[3] == float("inf")
    assert fit_to_precision(A / 0, B, HALVES)[2:] == (0, float("inf"))
