from __future__ import annotations

import pytest
import torch

from laboratory.made_samples import make_sample, orthonormal_rows
from lora_da_bench.laboratory.estimators.scale import whiten_outputs
from oracles import largest_angle, randn

Z = make_sample().sample.input_factor


def test_outputs_are_white_and_as_large_as_lora_draws_them() -> None:
    A = whiten_outputs(randn(0, 3, len(Z)) * 1e3, Z)
    usual = torch.empty(4000, len(Z), dtype=torch.float64)
    torch.nn.init.kaiming_uniform_(usual, a=5**0.5, generator=torch.Generator().manual_seed(0))
    size = (usual @ Z @ usual.T).diagonal().mean()
    torch.testing.assert_close(A @ Z @ A.T / size, torch.eye(3, dtype=torch.float64), rtol=0.1, atol=0.1)
    torch.testing.assert_close(A @ Z @ A.T, torch.eye(3, dtype=torch.float64) * (A @ Z @ A.T)[0, 0])


def test_any_basis_of_a_span_gives_the_same_up_to_a_rotation() -> None:
    rows = randn(0, 3, len(Z))
    first, second = whiten_outputs(rows, Z), whiten_outputs(randn(1, 3, 3) @ rows, Z)
    assert largest_angle(orthonormal_rows(first), orthonormal_rows(rows)) < 1e-7
    torch.testing.assert_close(first.T @ first, second.T @ second)


def test_a_direction_without_inputs_stays_finite() -> None:
    flat = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    A = whiten_outputs(torch.eye(4, dtype=torch.float64)[1:3], flat)
    assert float(A.norm()) < 1e3


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_rows_without_a_span_are_refused(value: float) -> None:
    rows = randn(0, 2, len(Z))
    rows[1] = rows[0] + value
    with pytest.raises(ValueError, match="fewer dimensions, or are not finite"):
        whiten_outputs(rows, Z)
