from __future__ import annotations

import pytest
import torch

from lora_da_bench.laboratory.estimators.expected_energy import expected_energy, posterior
from oracles import randn

FISHER = torch.outer(torch.logspace(0, -2, 30, dtype=torch.float64), torch.logspace(1, -3, 40, dtype=torch.float64))
EXAMPLES = 64


@pytest.mark.parametrize("prior", [1e-2, 1.0, 1e2])
def test_the_size_is_found_again(prior: float) -> None:
    delta = prior**0.5 * randn(1, 30, 40)
    gradient = -FISHER * delta + (FISHER / EXAMPLES).sqrt() * randn(2, 30, 40)
    assert posterior(gradient, FISHER, EXAMPLES).prior_variance == pytest.approx(prior, rel=0.2)


def test_the_expectation_by_simulation() -> None:
    """Of two unknowns, by weighing draws from the prior with the likelihood of what was seen."""
    fisher, seen = torch.tensor([[2.0, 0.5]], dtype=torch.float64), torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    found = posterior(seen, fisher, 8)
    draws = found.prior_variance**0.5 * randn(3, 400_000, 1, 2)
    weights = (-0.5 * (seen + fisher * draws).square() / (fisher / 8)).sum((1, 2)).softmax(0)
    whitened = fisher.sqrt() * draws
    expected = torch.einsum("n,noi,noj->ij", weights, whitened, whitened)
    torch.testing.assert_close(expected_energy(found, fisher, uncertain=True), expected, rtol=0.03, atol=5e-3)
    mean = torch.einsum("n,noi->oi", weights, whitened)
    torch.testing.assert_close(expected_energy(found, fisher, uncertain=False), mean.T @ mean, rtol=0.03, atol=5e-3)
