"""How far halves agree, against dense decompositions of hand-whitened gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lora_da import LayerStatistics, LoraDAConfig, solve_layer
from oracles import randn

D_OUT, D_IN, TOKENS, EXAMPLES, RANK = 30, 40, 4000, 64, 3


def layer_of(first: torch.Tensor, second: torch.Tensor) -> LayerStatistics:
    a = randn(0, TOKENS, D_IN) @ torch.diag(torch.logspace(1, -1, D_IN, dtype=torch.float64))
    g = randn(1, TOKENS, D_OUT) @ torch.diag(torch.logspace(-1, 1, D_OUT, dtype=torch.float64))
    return LayerStatistics(first + second, a.T @ a, g.square().sum(0), TOKENS, EXAMPLES, first, EXAMPLES // 2)


def overlap(layer: LayerStatistics, config: LoraDAConfig) -> float | None:
    init = solve_layer(layer, RANK, config)
    assert init is not None
    return init.half_overlap


@pytest.mark.parametrize("config", [LoraDAConfig(), LoraDAConfig(metric="parameters", population_size=1000)])
def test_it_is_that_of_dense_singular_vectors(config: LoraDAConfig) -> None:
    layer = layer_of(*(randn(seed, D_OUT, 6) @ randn(2, 6, D_IN) + 0.3 * randn(seed, D_OUT, D_IN) for seed in (3, 4)))
    init = solve_layer(layer, RANK, config)
    assert init is not None
    Z = layer.input_sum / TOKENS + init.input_damping * torch.eye(D_IN, dtype=torch.float64)
    y = layer.output_sum / TOKENS + init.output_damping
    values, vectors = torch.linalg.eigh(Z)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    assert layer.half_sum is not None
    spans = [
        torch.linalg.svd(y.rsqrt()[:, None] * half @ root)[2][:RANK]
        for half in (layer.half_sum, layer.gradient_sum - layer.half_sum)
    ]
    expected = float((spans[0] @ spans[1].T).square().sum()) / RANK
    assert 0.1 < expected < 0.95
    assert init.half_overlap == pytest.approx(expected, abs=0.02)  # the power method's and float32's


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e15])
def test_equal_halves_agree_and_unrelated_ones_do_not(scale: float) -> None:
    same = scale * randn(5, D_OUT, D_IN)
    assert overlap(layer_of(same, 2 * same), LoraDAConfig()) == pytest.approx(1, abs=1e-4)
    chance = [overlap(layer_of(randn(n, D_OUT, D_IN), randn(n + 50, D_OUT, D_IN)), LoraDAConfig()) for n in range(20)]
    assert sum(value or 0.0 for value in chance) / 20 == pytest.approx(RANK / D_IN, abs=0.05)


def test_nothing_is_said_where_no_half_is_known() -> None:
    layer = layer_of(randn(6, D_OUT, D_IN), randn(7, D_OUT, D_IN))
    unknown = (
        {"half_sum": None},
        {"half_examples": 0},
        {"half_examples": EXAMPLES},
        {"half_sum": torch.zeros(D_OUT, D_IN, dtype=torch.float64)},
        {"half_sum": layer.gradient_sum},
    )
    assert [overlap(dataclasses.replace(layer, **one), LoraDAConfig()) for one in unknown] == [None] * len(unknown)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12])
def test_factors_of_any_size_give_a_number_or_none(size: float) -> None:
    layer = layer_of(randn(8, D_OUT, D_IN), randn(9, D_OUT, D_IN))
    for changed in (
        dataclasses.replace(layer, output_sum=size * layer.output_sum),
        dataclasses.replace(layer, input_sum=size * layer.input_sum),
    ):
        found = overlap(changed, LoraDAConfig())
        assert found is None or 0 <= found <= 1 + 1e-6
