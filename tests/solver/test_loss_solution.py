"""Layers in the metric of the loss against dense decompositions with symmetric roots."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_da import LoraDAConfig, solve_layer
from lora_da.solver.layer_init import LayerInit
from oracles import largest_angle, solve_in_loss_metric
from solver.test_layer import make_layer

CONFIG = LoraDAConfig(population_size=1000)


def rows(A: torch.Tensor) -> torch.Tensor:
    orthonormal: torch.Tensor = torch.linalg.qr(A.T)[0]
    return orthonormal.T


def check(init: LayerInit | None, layer: object, rank: int, config: LoraDAConfig, tolerance: float) -> None:
    wanted = solve_in_loss_metric(layer, rank, config)  # type: ignore[arg-type]
    assert init is not None
    count = len(init.eigenvalues)
    assert torch.allclose(init.eigenvalues[: len(wanted.excess)], wanted.excess[:count], rtol=tolerance, atol=tolerance)
    assert largest_angle(rows(init.A), rows(wanted.A)) < 2e-3
    step = wanted.step(rank)
    assert float((init.delta_A @ init.A - step).norm()) <= tolerance * float(step.norm()) + 1e-12
    shares = wanted.sizes.square().cumsum(0) / wanted.sizes.square().sum()
    kept = min(rank, len(shares))
    assert torch.allclose(init.captured_energy[:kept], shares[:kept], atol=tolerance)
    assert init.delta_norm == pytest.approx(float(torch.linalg.matrix_norm(step, 2)), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize(("d_out", "d_in"), [(14, 20), (20, 14), (6, 40), (150, 260), (260, 150)])
@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, fisher_unit="token", population_size=None)])
def test_layers_equal_the_dense_equations(d_out: int, d_in: int, config: LoraDAConfig) -> None:
    layer = make_layer(d_out=d_out, d_in=d_in, examples=400, signal=3.0)
    check(solve_layer(layer, 5, config), layer, 5, config, 2e-3)


@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0.05, 10.0))
@settings(max_examples=20, deadline=None)
def test_any_rank_and_damping(seed: int, rank: int, damping: float) -> None:
    config = dataclasses.replace(CONFIG, input_damping=damping)
    layer = make_layer(seed, d_out=15, d_in=12, examples=300, signal=2.0)
    check(solve_layer(layer, rank, config), layer, rank, config, 2e-3)


def test_low_rank_activations_are_white() -> None:
    layer = make_layer()
    init = solve_layer(layer, 4, CONFIG)
    assert init is not None
    Z = layer.input_sum / layer.tokens
    damped = Z + init.input_damping * torch.eye(len(Z))
    assert torch.allclose(init.A @ damped @ init.A.T, torch.eye(4, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(init.activation_covariance, init.A @ Z @ init.A.T, atol=1e-5)


def test_what_the_data_do_not_tell_completes_the_rows() -> None:
    layer = make_layer(d_out=3, d_in=20)  # rank 3 at most
    init = solve_layer(layer, 6, CONFIG)
    assert init is not None
    assert torch.linalg.matrix_rank(init.A) == 6
    assert float(init.delta_A[:, 3:].abs().max()) == 0.0


def test_directions_too_close_for_float32_are_told_in_float64() -> None:
    layer = make_layer(d_out=30, d_in=30, examples=400)
    U, V = torch.linalg.qr(layer.gradient_sum)[0], torch.linalg.qr(layer.input_sum)[0]
    sizes = torch.logspace(0, -6, 30, dtype=torch.float64)  # squares down to 1e-12 of the first
    layer = dataclasses.replace(
        layer,
        gradient_sum=100 * U @ torch.diag(sizes) @ V.T,
        input_sum=torch.eye(30).double(),
        output_sum=torch.ones(30),
    )
    check(solve_layer(layer, 25, CONFIG), layer, 25, CONFIG, 2e-3)


def test_a_layer_whose_gradient_is_noise_starts_at_zero() -> None:
    layer = make_layer(signal=0.0, examples=4)
    init = solve_layer(layer, 4, CONFIG)
    assert init is not None
    assert init.delta_norm == 0.0
    assert not init.delta_A.any()
    assert (init.eigenvalues > 0).all()  # nothing is worth learning


def test_directions_are_told_by_the_noise_edge() -> None:
    layer = make_layer(d_out=14, d_in=20)
    init = solve_layer(layer, 4, CONFIG)
    assert init is not None
    assert init.noise_ratios is not None
    edge = (14**0.5 + 20**0.5) / layer.examples**0.5
    wanted = solve_in_loss_metric(layer, 4, CONFIG).sizes[:5] / edge
    assert torch.allclose(init.noise_ratios, wanted, rtol=1e-4)
    learnt = init.eigenvalues < 14 / (2 * 1000)  # what noise is learnt with each
    assert torch.equal(init.noise_ratios > 1, learnt)
