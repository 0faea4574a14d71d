"""The formulas of the metric of the loss against simulations of what they claim."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da.solver.factors import factorise
from lora_da.solver.loss_metric import expected_changes, noise_edge, rows_of, shrink, whiten
from oracles import randn

D_OUT, D_IN = 40, 60


def factor(seed: int, width: int) -> Tensor:
    """A factor with correlations and a range of sizes."""
    samples = randn(seed, 4 * width, width) * torch.logspace(0, -1, width, dtype=torch.float64)
    return samples.T @ samples / len(samples)


def test_noise_is_white_and_ends_at_the_edge() -> None:
    examples, tokens = 50, 3.0
    Z, Y = factor(0, D_IN), torch.logspace(0, -2, D_OUT, dtype=torch.float64)
    largest = []
    for seed in range(20):  # of a gradient whose expectation is zero, each example's covariance being T̄·Y ⊗ Z
        noise = randn(seed + 1, examples, D_OUT, D_IN).mean(0) * tokens**0.5
        gradient = Y.sqrt()[:, None] * noise @ torch.linalg.cholesky(Z).T
        whitened = whiten(gradient, 1 / Y, factorise(Z, 0.0, "absolute"), tokens)
        assert float(whitened.var()) * examples == pytest.approx(1.0, rel=0.1)
        largest.append(float(torch.linalg.matrix_norm(whitened, 2)))
    mean = sum(largest) / len(largest)
    assert mean == pytest.approx(noise_edge(D_OUT, D_IN, examples), rel=0.05)


def test_shrinking_is_better_than_any_other_cut() -> None:
    examples, signal = 50, torch.tensor([4.0, 3.0, 2.2], dtype=torch.float64)
    U, V = (torch.linalg.qr(randn(seed, width, 3))[0] for seed, width in ((1, D_OUT), (2, D_IN)))
    truth = U @ torch.diag(signal) @ V.T
    errors: dict[str, list[float]] = {"shrunken": [], "cut": [], "whole": []}
    for seed in range(20):
        left, sizes, right = torch.linalg.svd(truth + randn(seed + 3, D_OUT, D_IN) / examples**0.5, full_matrices=False)
        edge = noise_edge(D_OUT, D_IN, examples)
        for name, kept in {
            "shrunken": shrink(sizes, D_OUT, D_IN, examples),
            "cut": torch.where(sizes > edge, sizes, 0.0),
            "whole": sizes,
        }.items():
            errors[name].append(float((left @ torch.diag(kept) @ right - truth).square().sum()))
    means = {name: sum(found) / len(found) for name, found in errors.items()}
    assert means["shrunken"] < 0.9 * means["cut"] < 0.8 * means["whole"]


def fitted_excess(target: Tensor, A: Tensor, inputs: int, seed: int) -> float:
    """How much worse than the target's a linear model's expected loss is, with its B fitted to some examples."""
    Z = factor(5, A.shape[1])
    x = randn(seed, inputs, A.shape[1]) @ torch.linalg.cholesky(Z).T
    y = x @ target.T + randn(seed + 1, inputs, len(target))  # whose negative log-likelihood is ½‖y − W x‖²
    B = torch.linalg.lstsq(x @ A.T, y).solution.T
    error = target - B @ A
    return 0.5 * float((error @ Z @ error.T).trace())


@pytest.mark.parametrize("rank", [1, 4])
def test_the_excess_loss_is_that_of_maximum_likelihood(rank: int) -> None:
    d_out, d_in, examples = 5, 8, 400
    target, Z = randn(3, d_out, d_in) / 4, factor(5, d_in)
    whitened = whiten(target @ Z, torch.ones(d_out).double(), factorise(Z, 0.0, "absolute"), 1.0)
    _, sizes, Vh = torch.linalg.svd(whitened)
    A = rows_of(Vh[:rank].T, factorise(Z, 0.0, "absolute"))
    found = sum(fitted_excess(target, A, examples, 100 + 2 * seed) for seed in range(400)) / 400
    kept = expected_changes(sizes[:rank], d_out, examples).sum() + 0.5 * sizes.square().sum()
    assert found == pytest.approx(float(kept), rel=0.05)


def test_directions_worth_learning_are_those_that_lower_the_excess() -> None:
    d_out, d_in, examples = 5, 8, 60
    U, V = (torch.linalg.qr(randn(seed, width, width))[0] for seed, width in ((1, d_out), (2, d_in)))
    sizes = torch.tensor([1.0, 0.6, 0.45, 0.1, 0.05], dtype=torch.float64)  # d_out/N is 0.083, the square of 0.29
    Z = factor(5, d_in)
    damped = factorise(Z, 0.0, "absolute")
    target = U @ torch.diag(sizes) @ rows_of(V[:, :d_out], damped)  # its Ĝ has these singular values
    excess = []
    for rank in range(1, 6):
        A = rows_of(V[:, :rank], damped)
        excess.append(sum(fitted_excess(target, A, examples, 100 + 2 * seed) for seed in range(200)) / 200)
    worth = int((expected_changes(sizes, d_out, examples) < 0).sum())
    assert worth == 3
    assert min(range(5), key=excess.__getitem__) + 1 == worth
