"""The lowest eigenvectors found by iteration, and directions that the data leave open."""

from __future__ import annotations

import dataclasses
import functools
from unittest.mock import Mock

import pytest
import torch

from lora_da import LayerStatistics
from lora_da.solver import _eigenpairs as eigen
from lora_da.solver import parameter_solution as module
from oracles import largest_angle, randn
from solver.test_layer import BASE, NO_VARIANCE, PRESETS, check, make_layer, solved


@pytest.mark.parametrize("preset", PRESETS)
def test_iterated_path_against_the_dense_equations(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PRESETS[preset]
    layer = make_layer(seed=1, d_out=60, d_in=220, examples=40, length=20)
    dense = check(layer, 5, config)
    monkeypatch.setattr(module, "lowest_eigenpairs", functools.partial(eigen.lowest_eigenpairs, dense_limit=0))
    davidson = Mock(side_effect=eigen._davidson)
    monkeypatch.setattr(eigen, "_davidson", davidson)
    iterated = check(layer, 5, config)
    assert (220, 28) in [call.args[1].shape for call in davidson.call_args_list]
    assert largest_angle(iterated.A, dense.A) < 1e-6


def rank_one_layer(d_in: int = 10) -> LayerStatistics:
    layer = make_layer(d_in=d_in, d_out=6)
    return dataclasses.replace(layer, gradient_sum=torch.outer(randn(1, 6), randn(2, d_in)))


@pytest.mark.parametrize("d_in", [10, 1100])
def test_completion_is_deterministic_and_seeded_where_the_data_are_silent(d_in: int) -> None:
    layer, rank = rank_one_layer(d_in), 4
    config = dataclasses.replace(BASE, **NO_VARIANCE)
    first, again = solved(layer, rank, config), solved(layer, rank, config)
    assert torch.equal(first.A, again.A)
    other = solved(layer, rank, dataclasses.replace(config, seed=1))
    assert largest_angle(first.A, other.A) > 0.1
    assert torch.allclose(first.A[0], other.A[0], atol=1e-6)
    for init in (first, other):
        assert torch.allclose(init.A @ init.A.T, torch.eye(rank, dtype=torch.float64), atol=1e-10)
        assert torch.allclose(
            init.delta_A[:, 1:], torch.zeros(6, rank - 1, dtype=torch.float64), atol=1e-7 * init.delta_norm
        )
        assert init.captured_energy.tolist() == pytest.approx([1.0] * rank)
        assert init.eigenvalues[1:].abs().max() < 1e-9 * init.eigenvalues[0].abs()
    product = first.delta_A @ first.A
    assert float((product - other.delta_A @ other.A).norm() / product.norm()) < 1e-6


def test_completion_of_a_whole_space() -> None:
    init = solved(rank_one_layer(), 10, dataclasses.replace(BASE, **NO_VARIANCE))
    assert torch.allclose(init.A @ init.A.T, torch.eye(10, dtype=torch.float64), atol=1e-10)


def test_the_seed_changes_nothing_that_the_data_determine() -> None:
    for layer in (make_layer(), rank_one_layer()):
        first, other = (solved(layer, 4, dataclasses.replace(BASE, seed=seed)) for seed in (0, 1))
        assert largest_angle(first.A, other.A) < 1e-6
