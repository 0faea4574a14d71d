"""The equations of Δ and Ω, operator against matrix."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from lora_da.solver.factors import factorise
from lora_da.solver.guidance import Guidance, displacement, guidance
from oracles import randn

D_IN, D_OUT = 12, 9
CORRECTIONS = ["none", "simple"]


def problem(seed: int, damping: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """G, Z, y⁻."""
    inputs, outputs = randn(seed, 50, D_IN), randn(seed + 1, 50, D_OUT)
    return randn(seed + 2, D_OUT, D_IN), inputs.T @ inputs / 50, 1 / (outputs.square().mean(0) + damping)


def dense_omega(
    delta: Tensor,
    y: Tensor,
    Z: Tensor,
    damping: float,
    *,
    unit: float,
    tokens_per_example: float,
    examples: int,
    population_size: float,
    bias_weight: float,
    variance_weight: float,
    sample_correction: str,
) -> Tensor:
    """Ω as sections 2 and 4 of the method define it, entry by entry of the sum over the output rows."""
    inverse = torch.linalg.inv(Z + damping * torch.eye(len(Z), dtype=torch.float64))
    omega = torch.zeros_like(Z)
    for i in range(len(delta)):
        omega += variance_weight * y[i] / (population_size * unit) * inverse
        omega -= bias_weight * torch.outer(delta[i], delta[i])
        if sample_correction == "simple":
            omega += bias_weight * y[i] / unit * tokens_per_example / (unit * examples) * inverse
    return omega


@pytest.mark.parametrize("unit", [1.0, 7.5])
def test_displacement_entry_by_entry(unit: float) -> None:
    G, Z, y = problem(0)
    factor = factorise(Z, 0.2, "absolute")
    inverse = torch.linalg.inv(Z + 0.2 * torch.eye(D_IN, dtype=torch.float64))
    delta = displacement(G, y, factor, unit)
    assert delta.shape == (D_OUT, D_IN)
    for i, j in itertools.product(range(D_OUT), range(D_IN)):
        assert float(delta[i, j]) == pytest.approx(-float(y[i]) / unit * float(G[i] @ inverse[:, j]), rel=1e-10)


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("unit", ["example", "token"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.0, 0.03), (2.5, 0.0), (0.0, 1.5)])
def test_operator_and_matrix_against_the_formula(correction: Any, unit: str, alpha: float, beta: float) -> None:
    tokens_per_example, examples, population_size, damping = 7.5, 6, 40.0, 0.2
    G, Z, y = problem(1)
    factor = factorise(Z, damping, "absolute")
    u = tokens_per_example if unit == "example" else 1.0
    delta = displacement(G, y, factor, u)
    options: dict[str, Any] = {
        "unit": u,
        "tokens_per_example": tokens_per_example,
        "examples": examples,
        "population_size": population_size,
        "bias_weight": alpha,
        "variance_weight": beta,
        "sample_correction": correction,
    }
    operator = guidance(delta, y, factor, **options)
    wanted = dense_omega(delta, y, Z, damping, **options)
    assert torch.allclose(operator.dense(), wanted, rtol=1e-10, atol=1e-12)
    assert torch.equal(operator.dense(), operator.dense().mT)
    right = randn(5, D_IN, 4)
    assert torch.allclose(operator.times(right), wanted @ right, rtol=1e-10, atol=1e-12)


def test_the_correction_is_the_covariance_of_the_noise() -> None:
    """E of ΔᵀΔ over resampled independent tokens with zero mean gradient is C_S, the thing that it removes."""
    generator = torch.Generator().manual_seed(0)
    d_in, d_out, tokens, examples, draws = 3, 2, 4, 5, 40_000
    mix = torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, -0.4, 0.3]], dtype=torch.float64)
    sizes = torch.tensor([1.5, 0.5], dtype=torch.float64)
    count = tokens * examples
    a = torch.randn(draws, count, d_in, generator=generator, dtype=torch.float64) @ mix.T
    g = torch.randn(draws, count, d_out, generator=generator, dtype=torch.float64) * sizes
    Z, y = mix @ mix.T, 1 / sizes.square()  # undamped, and Y is diagonal
    gradients = torch.einsum("nto,nti->noi", g, a) / examples
    deltas = -(y[:, None] * gradients) @ torch.linalg.inv(Z) / tokens
    measured = torch.einsum("noi,noj->ij", deltas, deltas) / draws
    correction = guidance(
        torch.zeros(d_out, d_in, dtype=torch.float64),
        y,
        factorise(Z, 0.0, "absolute"),
        unit=float(tokens),
        tokens_per_example=float(tokens),
        examples=examples,
        population_size=float("inf"),
        bias_weight=1.0,
        variance_weight=1.0,
        sample_correction="simple",
    ).dense()
    assert float((measured - correction).norm() / correction.norm()) < 0.02


@pytest.mark.parametrize("shift", [1e-3, 1.0, 50.0])
def test_preconditioner_is_the_shifted_inverse(shift: float) -> None:
    G, Z, _ = problem(3)
    factor = factorise(Z, 0.2, "absolute")
    eye = torch.eye(D_IN, dtype=torch.float64)
    inverse = torch.linalg.inv(Z + 0.2 * eye)
    wanted = torch.linalg.inv(0.7 * inverse + shift * eye)
    operator = Guidance(0.7, 1.0, G, factor)
    found = operator.preconditioner(shift)(eye)  # made in float32
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_preconditioner_for_massive_activations_that_float32_cannot_tell_apart() -> None:
    G, Z, _ = problem(3)
    massive = torch.zeros(D_IN, dtype=torch.float64)
    massive[:2] = 1e5  # two channels that always move together
    Z = Z + torch.outer(massive, massive)
    eye = torch.eye(D_IN, dtype=torch.float64)
    factor = factorise(Z, 0.2, "absolute")
    wanted = torch.linalg.inv(0.6 * factor.inverse + eye)
    found = Guidance(0.6, 1.0, G, factor).preconditioner(1.0)(eye)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_preconditioner_without_a_positive_part_does_nothing() -> None:
    G, Z, _ = problem(4)
    right = randn(0, D_IN, 3)
    operator = Guidance(0.0, 1.0, G, factorise(Z, 0.2, "absolute"))
    assert torch.equal(operator.preconditioner(0.5)(right), right)
