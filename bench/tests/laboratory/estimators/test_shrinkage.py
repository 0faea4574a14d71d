from __future__ import annotations

import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage, oas

from lora_da_bench.laboratory.estimators.shrinkage import damping_of_weight, ledoit_wolf, oracle_approximating
from oracles import randn


@pytest.mark.parametrize("count", [12, 40, 400])
def test_weights_are_those_of_scikit_learn(count: int) -> None:
    a = randn(count, count, 8) * torch.logspace(0, -1, 8, dtype=torch.float64)
    Z = a.T @ a / count
    expected = ledoit_wolf_shrinkage(a.numpy(), assume_centered=True)
    assert ledoit_wolf(Z, float(a.norm(dim=1).pow(4).mean()), count) == pytest.approx(expected, rel=1e-9)
    assert oracle_approximating(Z, count) == pytest.approx(oas(a.numpy(), assume_centered=True)[1], rel=1e-9)


def test_tokens_that_repeat_are_no_new_ones() -> None:
    """Each example one token ten times: as examples they weigh as without the copies, as tokens a tenth."""
    a = randn(0, 300, 8) * torch.logspace(0, -1, 8, dtype=torch.float64)
    Z, squares = a.T @ a / 300, float(a.norm(dim=1).pow(4).mean())
    example_square = float(torch.einsum("si,sj->sij", a, a).pow(2).sum((1, 2)).mean())
    assert ledoit_wolf(Z, example_square, 300) == pytest.approx(ledoit_wolf(Z, squares, 300))
    assert ledoit_wolf(Z, squares, 3000) == pytest.approx(ledoit_wolf(Z, squares, 300) / 10)


def test_a_weight_is_a_damping() -> None:
    assert damping_of_weight(0.5) == 1.0
    assert damping_of_weight(1.0) == 1e6
    identity = torch.eye(4, dtype=torch.float64)
    assert ledoit_wolf(identity, 16.0, 10) == oracle_approximating(identity, 10) == 1.0
