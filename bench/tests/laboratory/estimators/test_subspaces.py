from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from laboratory.made_samples import make_sample, orthonormal_rows, sample_of
from lora_da import LayerStatistics, LoraDAConfig, solve_layer
from lora_da_bench.laboratory.estimators.sample import LayerSample
from lora_da_bench.laboratory.estimators.shrinkage import damping_of_weight, ledoit_wolf
from lora_da_bench.laboratory.estimators.subspaces import SUBSPACES
from oracles import largest_angle, randn, solve

RANK = 3
MADE = make_sample()


def angle_to(name: str, expected: Tensor, sample: LayerSample = MADE.sample) -> float:
    rows = SUBSPACES[name].rows(sample, RANK)
    assert rows.shape == (RANK, len(sample.input_factor))
    return largest_angle(orthonormal_rows(rows), orthonormal_rows(expected))


def power(matrix: Tensor, exponent: float) -> Tensor:
    """A symmetric power, by eigenvalues."""
    values, vectors = np.linalg.eigh(matrix.numpy())
    return torch.from_numpy(vectors * values**exponent @ vectors.T)


def whitened(Z: Tensor, *, cholesky: bool = False) -> Tensor:
    """The definition with an explicit root R of Z = R Rᵀ: leading V of Y^-½ G R⁻ᵀ, A = Vᵀ R⁻¹."""
    a, g = MADE.a.flatten(0, 1), MADE.g.flatten(0, 1)
    G = g.T @ a / len(MADE.a)
    y = g.square().mean(0)
    root = torch.from_numpy(np.linalg.cholesky(Z.numpy())) if cholesky else power(Z, 0.5)
    inverse = torch.linalg.inv(root)
    M = torch.diag((y + 0.1 * y.mean()) ** -0.5) @ G @ inverse.T
    _, _, Vh = np.linalg.svd(M.numpy())
    A: Tensor = torch.from_numpy(Vh[:RANK]) @ inverse
    return A


def second_moment() -> Tensor:
    a = MADE.a.flatten(0, 1)
    return a.T @ a / len(a)


def damped(damping: float) -> Tensor:
    Z = second_moment()
    return Z + damping * Z.trace() / len(Z) * torch.eye(len(Z), dtype=torch.float64)


@pytest.mark.parametrize("cholesky", [False, True])
@pytest.mark.parametrize("damping", [0.01, 0.1, 1.0, 10.0])
def test_whitened_by_any_root(damping: float, cholesky: bool) -> None:
    assert angle_to(f"whitened-{damping:g}", whitened(damped(damping), cholesky=cholesky)) < 1e-7


def test_both_diagonals() -> None:
    assert angle_to("both-diagonals", whitened(torch.diag(second_moment().diagonal()))) < 1e-7


def test_shrunk_by_ledoit_and_wolf() -> None:
    weight = ledoit_wolf(second_moment(), MADE.sample.moments.example_square, len(MADE.a))
    assert 0.01 < weight < 0.99
    expected = whitened((1 - weight) * second_moment() + weight * damped(1.0) - weight * second_moment())
    assert angle_to("ledoit-wolf", expected) < 1e-7
    assert damping_of_weight(1.0) == 1e6


def test_gradient() -> None:
    G = torch.einsum("slo,sli->oi", MADE.g, MADE.a)
    assert angle_to("gradient", torch.from_numpy(np.linalg.svd(G.numpy())[2][:RANK])) < 1e-7


def test_eva_is_centred() -> None:
    tokens = MADE.a.flatten(0, 1)
    assert angle_to("eva", torch.from_numpy(PCA(RANK).fit(tokens.numpy()).components_)) < 1e-7
    assert angle_to("eva", torch.linalg.svd(tokens).Vh[:RANK]) > 1e-3
    assert angle_to("eva-uncentred", torch.linalg.svd(tokens).Vh[:RANK]) < 1e-7


@pytest.mark.parametrize("name", ["paper", "parameters", "released"])
def test_parameter_metrics(name: str) -> None:
    """Against the dense equations; the released settings for the mean loss, for which g is divided by the labels."""
    config = LoraDAConfig.released() if name == "released" else LoraDAConfig.paper()
    if name == "parameters":
        config = dataclasses.replace(
            config,
            output_factor="inverse_of_diagonal",
            input_damping=0.1,
            output_damping=0.1,
            sample_correction="simple",
        )
    config = dataclasses.replace(config, population_size=1000)
    scale = 1 / (MADE.a.shape[1] - 1) if name == "released" else 1.0
    expected = solve(sample_of(MADE.a, MADE.g * scale).statistics, RANK, config).A
    assert angle_to(name, expected) < 1e-6


@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_the_library_has_the_same_loss_metric(damping: float) -> None:
    solution = solve_layer(MADE.sample.statistics, RANK, LoraDAConfig(metric="loss", input_damping=damping))
    assert solution is not None
    assert angle_to(f"whitened-{damping:g}", solution.A) < 1e-3  # what the library promises


def test_random_spans_differ_by_layer_and_seed() -> None:
    first = SUBSPACES["random"].rows(MADE.sample, RANK)
    assert torch.equal(first, SUBSPACES["random"].rows(MADE.sample, RANK))
    for changed in (sample_of(MADE.a, MADE.g, name="other"), sample_of(MADE.a, MADE.g, seed=1)):
        assert angle_to("random", first, changed) > 0.1


def test_bayes_has_two_limits() -> None:
    """With very many examples the whitened gradient, with hardly any sign of a gradient the inputs' leading axes."""
    many = dataclasses.replace(MADE.sample, statistics=_repeated(MADE.sample.statistics, 10**9))
    exact = SUBSPACES["empirical-bayes"].rows(many, RANK)
    angle = largest_angle(orthonormal_rows(exact), orthonormal_rows(whitened(second_moment())))
    assert angle < 1e-2
    noise = randn(9, *MADE.g.shape)  # independent of the inputs
    assert angle_to("empirical-bayes", torch.linalg.svd(MADE.a.flatten(0, 1)).Vh[:RANK], sample_of(MADE.a, noise)) < 0.2


def _repeated(sums: LayerStatistics, times: int) -> LayerStatistics:
    """The sums of the same examples so many times."""
    return LayerStatistics(
        gradient_sum=sums.gradient_sum * times,
        input_sum=sums.input_sum * times,
        output_sum=sums.output_sum * times,
        tokens=sums.tokens * times,
        examples=sums.examples * times,
    )


def test_the_span_that_is_known_to_be_best_wins() -> None:
    """Squared error with correlated inputs and noisy outputs of several sizes, and a low-rank change of the weights.

    The best B of each span is found by least squares, the excess loss measured in nats: only the loss metric finds the
    change's own row space. The gradient sees it through Z, the parameters' metric through y⁻.
    """
    d_in, d_out, examples, length = 9, 6, 4000, 4
    scales = torch.logspace(0, -1.3, d_in, dtype=torch.float64)
    a = randn(1, examples, length, d_in) * scales @ torch.linalg.qr(randn(2, d_in, d_in)).Q
    noise = torch.logspace(0.5, -0.5, d_out, dtype=torch.float64)  # standard deviations of the outputs
    Z = torch.einsum("sli,slj->ij", a, a) / (examples * length)
    change = noise[:, None] * randn(3, d_out, RANK) @ randn(4, RANK, d_in) @ power(Z, -0.5) * 0.05
    g = (-a @ change.T + noise * randn(5, examples, length, d_out)) / noise.square()
    sample = sample_of(a, g)

    def excess(name: str) -> float:
        rows = SUBSPACES[name].rows(sample, RANK)
        target, inputs = (a @ change.T / noise).flatten(0, 1), (a @ rows.T).flatten(0, 1)
        fitted = inputs @ torch.linalg.lstsq(inputs, target).solution
        return float(0.5 * (target - fitted).square().sum() / examples)

    found = {name: excess(name) for name in SUBSPACES}
    best = min(found["whitened-0.01"], found["empirical-bayes"])
    for other in ("random", "eva", "gradient", "both-diagonals"):
        assert best < 0.5 * found[other], (other, found)
    assert best < found["parameters"]
