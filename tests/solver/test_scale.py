"""The scales of A and B: their products, and the size of what A puts out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_da.solver.layer_init import LayerInit
from lora_da.solver.scale import scale_factors
from oracles import randn

GAMMA, SCALING = 1024.0, 2.5


def solved(Z: Tensor, rank: int, seed: int = 0, d_out: int = 7) -> tuple[LayerInit, Tensor]:
    """A solution with a random subspace, and its Δ."""
    d_in = len(Z)
    A = torch.linalg.qr(randn(seed, d_in, rank))[0].mT
    delta = randn(seed + 1, d_out, d_in)
    init = LayerInit(
        A=A,
        delta_A=delta @ A.T,
        eigenvalues=torch.zeros(rank, dtype=torch.float64),
        captured_energy=torch.zeros(rank, dtype=torch.float64),
        delta_norm=float(torch.linalg.matrix_norm(delta, 2)),
        activation_covariance=A @ Z @ A.T,
        input_mean_square=float(Z.trace()) / d_in,
        input_damping=0.0,
        input_raised=0,
        output_damping=0.0,
        output_raised=0,
        residual=0.0,
    )
    return init, delta


def covariance(seed: int, d_in: int, spread: float = 1.0) -> Tensor:
    samples = randn(seed, 200, d_in) * torch.logspace(0, -spread / 2, d_in, dtype=torch.float64)
    return samples.T @ samples / 200


def factors(init: LayerInit, scale: Any, gamma: float = GAMMA) -> tuple[Tensor, Tensor]:
    return scale_factors(init, scaling=SCALING, init_scale=scale, stable_gamma=gamma)


def test_theory_writes_the_displacement_within_the_subspace() -> None:
    init, delta = solved(covariance(0, 12), 4)
    A, B = factors(init, "theory")
    assert torch.equal(A, init.A)
    assert torch.allclose(SCALING * B @ A, delta @ init.A.T @ init.A, rtol=1e-12, atol=1e-14)


def test_stable_is_independent_of_the_size_of_the_displacement() -> None:
    init, delta = solved(covariance(0, 12), 4)
    A, B = factors(init, "stable", 400.0)
    assert torch.allclose(A @ A.T, torch.eye(4, dtype=torch.float64) / 400, atol=1e-15)
    norm = torch.linalg.matrix_norm(delta, 2)
    assert torch.allclose(B @ A, delta @ init.A.T @ init.A / norm / 400, rtol=1e-12, atol=1e-15)
    assert float(torch.linalg.matrix_norm(B @ A, 2)) <= 1 / 400 * (1 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(rank=st.integers(1, 8), seed=st.integers(0, 1000), power=st.integers(-6, 6))
def test_activations_are_white_and_of_the_usual_size(rank: int, seed: int, power: int) -> None:
    Z = covariance(seed, 12) * 10.0**power
    init, delta = solved(Z, rank, seed)
    A, B = factors(init, "searched")
    c_squared = float(Z.trace()) / (3 * 12)
    assert torch.allclose(A @ Z @ A.T, c_squared * torch.eye(rank, dtype=torch.float64), atol=1e-9 * c_squared)
    assert torch.allclose(SCALING * B @ A, delta @ init.A.T @ init.A, rtol=1e-8, atol=1e-14)
    # the same subspace
    assert torch.allclose(A @ init.A.T @ init.A, A, rtol=1e-10, atol=1e-12)
    zero_A, zero_B = factors(init, "zero")
    assert torch.equal(zero_A, A)
    assert not zero_B.any()


def test_the_usual_size_is_that_of_peft() -> None:
    peft = pytest.importorskip("peft")
    layer = torch.nn.ModuleDict({"linear": torch.nn.Linear(300, 3)})
    model = peft.get_peft_model(layer, peft.LoraConfig(r=64, target_modules=["linear"]))
    usual = model.base_model.model["linear"].lora_A["default"].weight.detach().double()
    Z = covariance(2, 300, 4.0)
    A, _ = factors(solved(Z, 64)[0], "searched")
    assert float((A @ Z @ A.T).trace()) == pytest.approx(float((usual @ Z @ usual.T).trace()), rel=0.15)


def test_the_root_is_symmetric_so_the_solution_changes_as_little_as_possible() -> None:
    init, _ = solved(covariance(3, 12, 3.0), 5)
    A, _ = factors(init, "searched")
    change = A @ init.A.T
    assert torch.allclose(change, change.T, rtol=1e-10, atol=1e-12)
    assert float(torch.linalg.eigvalsh(change).min()) > 0


def test_directions_without_activation_are_floored() -> None:
    # A's rows are coordinate axes; the third sees 1e-9 of the first's variance, the floor is 1e-4 of it.
    Z = torch.diag(torch.tensor([4.0, 1.0, 4e-9, 1.0], dtype=torch.float64))
    init, delta = solved(Z, 3)
    A = torch.eye(4, dtype=torch.float64)[:3]
    init = LayerInit(**{**vars(init), "A": A, "delta_A": delta @ A.T, "activation_covariance": A @ Z @ A.T})
    lora_A, lora_B = factors(init, "searched")
    c = (float(Z.trace()) / 12) ** 0.5
    wanted = torch.diag(c / torch.tensor([4.0, 1.0, 4e-4, 1.0], dtype=torch.float64).sqrt())[:3]
    assert torch.allclose(lora_A, wanted, rtol=1e-12, atol=1e-14)
    assert torch.allclose(SCALING * lora_B @ lora_A, delta @ A.T @ A, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("scale", ["theory", "stable", "searched", "zero"])
def test_always_finite(scale: str) -> None:
    for seen in (4, 1, 0):  # how many of A's rows lie where the inputs vary
        Z = torch.zeros(8, 8, dtype=torch.float64)
        Z.diagonal()[:seen] = 1.0
        Z[7, 7] = 5.0
        init, delta = solved(Z, 4)
        A = torch.eye(8, dtype=torch.float64)[:4]
        init = LayerInit(**{**vars(init), "A": A, "delta_A": delta @ A.T, "activation_covariance": A @ Z @ A.T})
        for factor in factors(init, scale):
            assert bool(torch.isfinite(factor).all()), seen
