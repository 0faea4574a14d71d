"""Damping, scaling and factorisation of the Fisher factors, against dense inverses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_da.solver.factors import SolverError, diagonal_of_inverse, factorise, inverse_of_diagonal
from oracles import randn


def orthogonal(seed: int, size: int) -> Tensor:
    Q, _ = torch.linalg.qr(randn(seed, size, size))
    return torch.as_tensor(Q)


def covariance(seed: int, size: int, tokens: int) -> Tensor:
    samples = randn(seed, tokens, size)
    return samples.T @ samples / tokens


def with_eigenvalues(seed: int, eigenvalues: Tensor) -> Tensor:
    rotation = orthogonal(seed, len(eigenvalues))
    matrix = (rotation * eigenvalues) @ rotation.T
    return (matrix + matrix.T) / 2


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("seed", [0, 1])
def test_solve_survives_twelve_orders_of_magnitude(seed: int) -> None:
    # Features of wildly different size, as massive activations make them: F = D C D with a well-conditioned C, whose
    # inverse is known to full precision as D⁻¹ C⁻¹ D⁻¹.
    size = 60
    core = covariance(seed, size, 400)
    sizes = torch.logspace(-6, 6, size, dtype=torch.float64)[torch.randperm(size, generator=torch.manual_seed(seed))]
    matrix = sizes[:, None] * core * sizes
    wanted = torch.linalg.inv(core) / sizes[:, None] / sizes
    factor = factorise(matrix, 0.0, "absolute")
    assert factor.raised == 0
    assert factor.damping == 0
    found = factor.solve(torch.eye(size, dtype=torch.float64))
    assert torch.allclose(found * sizes * sizes[:, None], wanted * sizes * sizes[:, None], rtol=1e-10, atol=1e-10)
    assert torch.allclose(factor.inverse_diagonal(), wanted.diagonal(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("damping", "mode"), [(0.1, "relative"), (1e-3, "relative"), (1e-6, "absolute"), (5.0, "absolute")]
)
def test_solve_times_and_inverse_diagonal_against_the_dense_inverse(damping: float, mode: str) -> None:
    size = 40
    matrix = with_eigenvalues(3, torch.logspace(-4, 4, size, dtype=torch.float64))
    absolute = damping * float(matrix.trace()) / size if mode == "relative" else damping
    wanted = torch.linalg.inv(matrix + absolute * torch.eye(size, dtype=torch.float64))
    factor = factorise(matrix, damping, mode)  # type: ignore[arg-type]
    right = randn(4, size, 7)
    assert factor.damping == pytest.approx(absolute, rel=1e-12)
    assert relative(factor.solve(right), wanted @ right) < 1e-6
    assert relative(factor.times(right), matrix @ right) < 1e-13
    assert relative(factor.inverse_diagonal(), wanted.diagonal()) < 1e-6
    # The residual does not suffer from the condition of the inverse that it is compared with.
    assert relative(factor.times(factor.solve(right)) + absolute * factor.solve(right), right) < 1e-8


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 12),
    tokens=st.integers(1, 30),
    damping=st.floats(1e-4, 10),
    power=st.integers(-8, 8),
    seed=st.integers(0, 1000),
)
def test_relative_damping_commutes_with_the_scale(
    size: int, tokens: int, damping: float, power: int, seed: int
) -> None:
    matrix, right = covariance(seed, size, tokens), randn(seed + 1, size, 3)
    plain = factorise(matrix, damping, "relative")
    scaled = factorise(matrix * 10.0**power, damping, "relative")
    assert plain.raised == scaled.raised == 0
    assert scaled.damping == pytest.approx(plain.damping * 10.0**power, rel=1e-12)
    assert relative(scaled.solve(right) * 10.0**power, plain.solve(right)) < 1e-9
    wanted = torch.linalg.inv(matrix + damping * float(matrix.trace()) / size * torch.eye(size, dtype=torch.float64))
    assert relative(plain.solve(right), wanted @ right) < 1e-8


def test_dead_and_tiny_directions_are_damped() -> None:
    matrix = torch.diag(torch.tensor([4.0, 0.0, 1e-30], dtype=torch.float64))
    factor = factorise(matrix, 1e-3, "absolute")
    assert factor.raised == 0
    wanted = torch.tensor([1 / 4.001, 1e3, 1e3], dtype=torch.float64)
    assert torch.allclose(factor.inverse_diagonal(), wanted, rtol=1e-12)


def test_a_singular_factor_without_damping_is_raised_visibly() -> None:
    matrix = covariance(0, 20, 5)  # 5 tokens, 20 dimensions
    factor = factorise(matrix, 0.0, "absolute")
    assert factor.raised >= 1
    assert 0 < factor.damping < 1e-6 * float(matrix.trace())
    right = randn(1, 20, 2)
    back = factor.times(factor.solve(right)) + factor.damping * factor.solve(right)
    assert relative(back, right) < 1e-3


def test_a_factor_that_is_definite_by_luck_only_is_raised() -> None:
    off = 1 - 2.0**-53  # the last pivot is 2⁻⁵², all of it rounding
    matrix = torch.tensor([[1.0, off], [off, 1.0]], dtype=torch.float64)
    assert int(torch.linalg.cholesky_ex(matrix).info) == 0
    factor = factorise(matrix, 0.0, "absolute")
    assert factor.raised >= 1
    assert factor.damping >= 1e-13


def test_a_factor_indefinite_by_rounding_is_raised_until_it_is_not() -> None:
    eigenvalues = torch.logspace(-3, 2, 30, dtype=torch.float64)
    eigenvalues[0] = -1e-7 * eigenvalues[-1]  # what float32 sums leave
    matrix = with_eigenvalues(5, eigenvalues)
    factor = factorise(matrix, 1e-9, "absolute")
    assert factor.raised >= 1
    assert factor.damping == pytest.approx(1e-9 * 10.0**factor.raised)
    # the smallest power of ten that helps, no more
    assert -float(eigenvalues[0]) < factor.damping <= -100 * float(eigenvalues[0])
    wanted = torch.linalg.inv(matrix + factor.damping * torch.eye(30, dtype=torch.float64))
    assert relative(factor.solve(torch.eye(30, dtype=torch.float64)), wanted) < 1e-6
    assert factorise(matrix, 1e-3, "absolute").raised == 0


@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, 3.0], [3.0, 1.0]],
        [[1.0, 1e6], [1e6, 1.0]],
        [[5.0, 0.0], [0.0, -4.0]],
        [[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]],
    ],
)
@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_no_covariance_is_an_error(matrix: list[list[float]], mode: str) -> None:
    with pytest.raises(SolverError, match="no covariance"):
        factorise(torch.tensor(matrix, dtype=torch.float64), 1e-6, mode)  # type: ignore[arg-type]


def test_zero_and_non_finite_factors_are_errors() -> None:
    with pytest.raises(SolverError, match="zero"):
        factorise(torch.zeros(3, 3, dtype=torch.float64), 0.1, "absolute")
    for bad in (float("nan"), float("inf")):
        matrix = torch.eye(3, dtype=torch.float64)
        matrix[2, 0] = matrix[0, 2] = bad
        with pytest.raises(SolverError, match="not finite"):
            factorise(matrix, 0.1, "relative")
        with pytest.raises(SolverError, match="non-finite"):
            inverse_of_diagonal(torch.tensor([1.0, bad], dtype=torch.float64), 0.1, "relative")


def test_inverse_of_diagonal_by_hand() -> None:
    diagonal = torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64)
    found = inverse_of_diagonal(diagonal, 0.5, "relative")  # mean 2, λ' = 1
    assert found.damping == pytest.approx(1.0)
    assert found.inverse.tolist() == pytest.approx([1 / 2, 1.0, 1 / 6])
    found = inverse_of_diagonal(diagonal, 0.5, "absolute")
    assert found.damping == 0.5
    assert found.inverse.tolist() == pytest.approx([1 / 1.5, 2.0, 1 / 5.5])
    with pytest.raises(SolverError, match="output damping above 0"):
        inverse_of_diagonal(diagonal, 0.0, "relative")
    with pytest.raises(SolverError, match="output damping above 0"):
        inverse_of_diagonal(torch.zeros(2, dtype=torch.float64), 0.5, "relative")


def test_diagonal_of_inverse_by_hand() -> None:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)  # (Y + I)⁻¹ = [[4, -1], [-1, 3]]/11
    found = diagonal_of_inverse(matrix, 1.0, "absolute")
    assert (found.damping, found.raised) == (1.0, 0)
    assert found.inverse.tolist() == pytest.approx([4 / 11, 3 / 11])


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 10), seed=st.integers(0, 1000), damping=st.floats(1e-3, 1))
def test_the_two_output_factors_agree_only_for_a_diagonal_factor(size: int, seed: int, damping: float) -> None:
    full = covariance(seed, size, 3 * size)
    diagonal = full.diagonal()
    found = inverse_of_diagonal(diagonal, damping, "relative")
    of_diagonal, absolute = found.inverse, found.damping
    of_inverse = diagonal_of_inverse(full, damping, "relative").inverse
    dense = torch.linalg.inv(full + absolute * torch.eye(size, dtype=torch.float64)).diagonal()
    assert torch.allclose(of_inverse, dense, rtol=1e-9)
    diagonal_alone = diagonal_of_inverse(torch.diag(diagonal), damping, "relative").inverse
    assert torch.allclose(diagonal_alone, of_diagonal, rtol=1e-12)
    # [Y⁻¹]_ii = 1/(Y_ii − c) with c ≥ ‖row i off the diagonal‖² / λ_max: above 1/Y_ii unless the row is uncorrelated
    damped = full + absolute * torch.eye(size, dtype=torch.float64)
    correlated = (damped - damped.diagonal().diag()).square().sum(0)
    above = correlated / (torch.linalg.eigvalsh(damped).max() * damped.diagonal())
    assert float(above.max()) > 0
    assert bool((of_inverse / of_diagonal - 1 >= above * (1 - 1e-6) - 1e-12).all())
