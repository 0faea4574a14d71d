"""Leading singular triplets against a dense decomposition."""

from __future__ import annotations

import pytest
import torch

from lora_da.solver._singular_triplets import ANGLE, leading_triplets
from oracles import largest_angle, randn


def decaying(rows: int, columns: int, decay: float = 0.05) -> torch.Tensor:
    U, _, Vh = torch.linalg.svd(randn(0, rows, columns), full_matrices=False)
    matrix: torch.Tensor = U @ torch.diag(torch.exp(-decay * torch.arange(len(Vh)).double())) @ Vh
    return matrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(600, 900), (900, 600), (30, 700), (700, 30)])
def test_triplets_equal_a_dense_decomposition(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = decaying(*shape)
    found = leading_triplets(matrix.to(dtype), 8, seed=0)
    U, sizes, Vh = torch.linalg.svd(matrix)
    assert found.angle <= ANGLE
    assert largest_angle(found.right[:, :8].double().T, Vh[:8]) <= found.angle + 1e-6
    assert torch.allclose(found.values.double(), sizes[:9], rtol=1e-4)
    again = found.left[:, :8] @ torch.diag(found.values[:8]) @ found.right[:, :8].T
    assert torch.allclose(again.double(), U[:, :8] @ torch.diag(sizes[:8]) @ Vh[:8], atol=2e-3)
    assert torch.equal(found.right, leading_triplets(matrix.to(dtype), 8, seed=0).right)


def test_values_that_are_equal_have_no_certificate() -> None:
    found = leading_triplets(torch.eye(400, 500), 8, seed=0)
    assert found.angle > ANGLE
    assert torch.allclose(found.values, torch.ones(9), atol=1e-5)


def test_the_scale_does_not_matter() -> None:
    matrix = decaying(300, 400).float()
    one, other = (leading_triplets(matrix * scale, 4, seed=0) for scale in (1.0, 1e-25))
    assert torch.allclose(one.right, other.right, atol=1e-5)
    assert torch.allclose(one.values, other.values * 1e25, rtol=1e-5)


def test_a_matrix_of_low_rank_is_completed() -> None:
    found = leading_triplets(randn(1, 50, 2) @ randn(2, 2, 40), 5, seed=0)
    assert found.right.shape == (40, 6)
    assert torch.allclose(found.right.T @ found.right, torch.eye(6, dtype=torch.float64), atol=1e-9)
    assert int((found.values > 0).sum()) == 2
    assert not found.left[:, 2:].any()
