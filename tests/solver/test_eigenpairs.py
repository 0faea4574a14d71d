"""The iterative eigensolver against spectra that are known by construction, and against a dense decomposition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_da.solver import _eigenpairs as eigen
from lora_da.solver._eigenpairs import TOLERANCE, Eigenpairs, lowest_eigenpairs
from lora_da.solver.factors import factorise
from lora_da.solver.guidance import Guidance
from oracles import largest_angle, randn


def rotation(seed: int, size: int) -> Tensor:
    """An orthogonal matrix, a product of three reflections, that costs nothing at any size."""
    result = torch.eye(size, dtype=torch.float64)
    for k in range(3):
        v = randn(seed + k, size, 1)
        result -= 2 * v @ (v.T @ result) / float(v.T @ v)
    return result


def logspace(low: float, high: float, count: int) -> Tensor:
    return torch.logspace(low, high, count, dtype=torch.float64)


class Counted:
    """A matrix as an operator that knows how often it was used, and how."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.calls, self.widest = matrix, 0, 0

    def __call__(self, right: Tensor) -> Tensor:
        self.calls += 1
        self.widest = max(self.widest, right.shape[1])
        return self.matrix @ right


def no_dense() -> Tensor:
    raise AssertionError("fell back to the dense solution")


def check(found: Eigenpairs, matrix: Tensor, values: Tensor, tolerance: float = TOLERANCE) -> None:
    """Everything that Eigenpairs promises, for the wanted lowest values."""
    count, scale = len(values), float(values.abs().max())
    assert found.values.shape == (count,)
    assert found.vectors.shape == (len(matrix), count)
    assert torch.allclose(found.values, values, rtol=0, atol=tolerance * scale)
    assert bool((found.values.diff() >= -1e-14 * scale).all())
    overlaps = found.vectors.T @ found.vectors
    assert torch.allclose(overlaps, torch.eye(count, dtype=torch.float64), atol=1e-11, rtol=0)
    residuals = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    rounding = 1e-13 * float(torch.linalg.matrix_norm(matrix)) / scale  # of the products that it is the difference of
    assert found.residual == pytest.approx(float(residuals.max()) / scale, rel=1e-6, abs=rounding)
    assert found.residual <= 1.5 * tolerance
    largest = found.vectors.gather(0, found.vectors.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


SPECTRA: dict[str, Callable[[int], Tensor]] = {
    "spread": lambda n: torch.linspace(-5, 7, n, dtype=torch.float64),
    "decaying": lambda n: -logspace(0, -6, n),
    "clustered": lambda n: torch.cat(
        [-1 - 1e-5 * torch.arange(6, dtype=torch.float64), torch.linspace(-0.5, 0, n - 6)]
    ),
    "degenerate top pair": lambda n: torch.cat([torch.tensor([-3.0, -3.0, -2.0, -2.0]), torch.linspace(-1, 1, n - 4)]),
    "rank deficient": lambda n: torch.cat([torch.tensor([-3.0, -2.0, -1.0]), torch.zeros(n - 3)]),
    "all equal": lambda n: torch.full((n,), -2.0, dtype=torch.float64),
    "one sign change": lambda n: torch.cat([torch.tensor([-1.0, -0.1, 1e-3]), torch.linspace(0.2, 1, n - 3)]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("n", "count"), [(200, 1), (200, 5), (200, 20), (700, 9)])
def test_iterating_finds_the_lowest_pairs(name: str, n: int, count: int) -> None:
    values, basis = SPECTRA[name](n).double().sort().values, rotation(0, n)
    matrix = (basis * values) @ basis.T
    operator = Counted(matrix)
    found = lowest_eigenpairs(operator, randn(7, n, 2 * count + 8), count, dense_limit=0, dense=no_dense)
    check(found, matrix, values[:count])
    assert operator.widest < n  # never the whole matrix
    if float(values[count] - values[count - 1]) > 0.05:
        assert largest_angle(found.vectors.T, basis[:, :count].T) < 1e-6


def guidance_of(seed: int, n: int, weight: float, spread: float, d_out: int = 40) -> Guidance:
    """Ω = w·Z_λ⁻¹ − ΔᵀΔ with a Z that spans ``spread`` orders of magnitude."""
    basis = rotation(seed, n)
    Z = (basis * logspace(0, -spread, n)) @ basis.T
    delta = randn(seed + 9, d_out, n) * logspace(0, -2, d_out)[:, None] / n**0.5
    return Guidance(weight, 1.0, delta, factorise((Z + Z.T) / 2, 0.0, "absolute"))


def solve_guidance(operator: Guidance, count: int, **options: bool) -> Eigenpairs:
    n = operator.delta.shape[1]
    start = randn(3, n, count + 8)
    start = torch.cat([operator.delta.T @ (operator.delta @ start), start], 1)
    precondition = operator.preconditioner if options.get("precondition", True) else None
    return lowest_eigenpairs(operator.times, start, count, precondition=precondition, dense_limit=0, dense=no_dense)


@pytest.mark.parametrize("weight", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("count", [2, 9])
def test_a_high_positive_end_does_not_disturb_the_low_one(weight: float, count: int) -> None:
    operator = guidance_of(0, 400, weight, spread=6)
    matrix = operator.dense()
    values = torch.linalg.eigvalsh(matrix)
    check(solve_guidance(operator, count), matrix, values[:count])


def test_a_positive_end_a_hundred_million_times_higher() -> None:
    operator = guidance_of(0, 300, 1.0, spread=8)
    matrix = operator.dense()
    values, vectors = torch.linalg.eigh(matrix)
    assert float(values[-1] / values[0].abs()) > 1e7
    start = randn(3, 300, 20)
    found = lowest_eigenpairs(
        operator.times, start, 5, precondition=operator.preconditioner, dense=operator.dense, dense_limit=0
    )
    # Rounding of the high end, 1e-16 · 1e8, limits what any method can reach, this decomposition included.
    assert torch.allclose(found.values, values[:5], rtol=1e-6)
    assert largest_angle(found.vectors.T, vectors[:, :5].T) < 1e-4


@pytest.mark.parametrize("n", [300, 1500])
def test_where_the_variance_dominates_the_answer_is_the_top_of_z(n: int) -> None:
    basis, eigenvalues = rotation(5, n), logspace(0, -4, n)
    Z = (basis * eigenvalues) @ basis.T
    operator = Guidance(1.0, 0.0, randn(0, 4, n), factorise((Z + Z.T) / 2, 0.0, "absolute"))
    found = solve_guidance(operator, 4)
    check(found, (basis / eigenvalues) @ basis.T, 1 / eigenvalues[:4])
    assert bool((found.values > 0).all())
    assert largest_angle(found.vectors.T, basis[:, :4].T) < 1e-6


@pytest.mark.parametrize("count", [39, 40])
def test_count_near_n_is_solved_densely(count: int) -> None:
    matrix = randn(0, 40, 40)
    matrix = matrix + matrix.T
    found = lowest_eigenpairs(matrix.__matmul__, randn(1, 40, 40), count, dense_limit=0)
    check(found, matrix, torch.linalg.eigvalsh(matrix)[:count])


def test_more_pairs_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="5 eigenvectors of a matrix of width 4"):
        lowest_eigenpairs(lambda right: right, randn(0, 4, 4), 5)


def test_falls_back_to_the_dense_solution_where_iterating_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigen, "_ROUNDS", 2)
    values, basis = torch.linspace(-1, 1, 300, dtype=torch.float64), rotation(0, 300)
    matrix = (basis * values) @ basis.T
    with pytest.raises(AssertionError, match="fell back"):
        lowest_eigenpairs(matrix.__matmul__, randn(1, 300, 20), 3, dense_limit=0, dense=no_dense)
    given = lowest_eigenpairs(matrix.__matmul__, randn(1, 300, 20), 3, dense_limit=0, dense=lambda: matrix)
    made = lowest_eigenpairs(matrix.__matmul__, randn(1, 300, 20), 3, dense_limit=0)
    check(given, matrix, values[:3], tolerance=1e-12)
    assert torch.allclose(made.values, given.values, atol=1e-12)


def test_an_unreachable_tolerance_still_gives_a_solution() -> None:
    matrix = randn(0, 150, 150)
    matrix = matrix + matrix.T
    found = lowest_eigenpairs(matrix.__matmul__, randn(1, 150, 20), 3, dense_limit=0, tolerance=0.0)
    assert torch.allclose(found.values, torch.linalg.eigvalsh(matrix)[:3], atol=1e-10)
    assert 0 < found.residual < 1e-12  # reported as it is


def test_the_residual_tells_a_wrong_dense_matrix_from_the_operator() -> None:
    matrix = torch.diag(torch.tensor([-2.0, 1.0, 5.0], dtype=torch.float64))
    found = lowest_eigenpairs(matrix.__matmul__, randn(0, 3, 3), 1, dense=lambda: matrix.flip(0, 1))
    assert found.residual == pytest.approx(7 / 2)  # Ω e_3 = 5 e_3, claimed value −2


def test_many_pairs_of_a_wide_matrix_are_sought_densely() -> None:
    matrix = torch.diag(-(0.8 ** torch.arange(1100, dtype=torch.float64)))
    asked: list[int] = []

    def dense(count: int) -> torch.Tensor:
        asked.append(count)
        return matrix

    for count in (4, 48):  # blocks of 12 and 56, the second 1/20 of the width
        found = lowest_eigenpairs(matrix.__matmul__, randn(1, 1100, 2 * count), count, dense=partial(dense, count))
        check(found, matrix, matrix.diagonal()[:count])
    assert asked == [48]


def test_signs_and_determinism() -> None:
    values, basis = torch.linspace(-3, 4, 250, dtype=torch.float64), rotation(2, 250)
    matrix = (basis * values) @ basis.T
    start = randn(4, 250, 20)
    first = lowest_eigenpairs(matrix.__matmul__, start, 5, dense_limit=0, dense=no_dense)
    again = lowest_eigenpairs(matrix.__matmul__, start, 5, dense_limit=0, dense=no_dense)
    assert torch.equal(first.vectors, again.vectors)
    assert torch.equal(first.values, again.values)
    for other in (
        lowest_eigenpairs(matrix.__matmul__, -start, 5, dense_limit=0, dense=no_dense),
        lowest_eigenpairs(matrix.__matmul__, randn(5, 250, 20), 5, dense_limit=0, dense=no_dense),
        lowest_eigenpairs(matrix.__matmul__, start, 5),
    ):
        assert torch.allclose(other.vectors, first.vectors, atol=1e-6)  # vectors, not only their span


def test_a_start_inside_an_invariant_subspace_does_not_end_the_search_wrongly_certified() -> None:
    # Nothing can be found outside the span; what is returned must at least be what the residual says.
    values, basis = torch.linspace(-1, 1, 120, dtype=torch.float64), rotation(3, 120)
    matrix = (basis * values) @ basis.T
    found = lowest_eigenpairs(matrix.__matmul__, basis[:, 60:80], 2, dense_limit=0)
    residuals = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    assert found.residual == pytest.approx(float(residuals.max() / found.values.abs().max()), abs=1e-12)


def test_a_start_of_dependent_columns() -> None:
    values, basis = torch.linspace(-1, 1, 150, dtype=torch.float64), rotation(3, 150)
    matrix = (basis * values) @ basis.T
    some = randn(0, 150, 6)
    start = torch.cat([some, 2 * some, torch.zeros(150, 3, dtype=torch.float64), some.sum(1, keepdim=True)], 1)
    check(lowest_eigenpairs(matrix.__matmul__, start, 3, dense_limit=0, dense=no_dense), matrix, values[:3])


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(60, 150),
    count=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    power=st.integers(-30, 30),
    shift=st.floats(-2, 2),
)
def test_any_symmetric_matrix_at_any_scale(n: int, count: int, seed: int, power: int, shift: float) -> None:
    matrix = randn(seed, n, n)
    matrix = ((matrix + matrix.T) / n**0.5 + shift * torch.eye(n, dtype=torch.float64)) * 10.0**power
    operator = Counted(matrix)
    found = lowest_eigenpairs(operator, randn(seed + 1, n, 2 * count + 8), count, dense_limit=0)
    check(found, matrix, torch.linalg.eigvalsh(matrix)[:count])
