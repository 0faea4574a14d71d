"""The residual against that of the dense Ω, for vectors that are no eigenvectors as well."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lora_da import LoraDAConfig
from lora_da.solver._residual import measure_residual
from lora_da.solver.factors import in_float64
from lora_da.solver.guidance import Guidance
from lora_da.solver.layer import factorise_input
from oracles import randn, solve
from solver.test_layer import BASE, make_layer

PER_TOKEN = dataclasses.replace(BASE, fisher_unit="token", bias_weight=0.3)


@pytest.mark.parametrize("config", [BASE, PER_TOKEN], ids=["example", "token"])
@pytest.mark.parametrize("exact", [True, False])
def test_against_the_dense_matrix(config: LoraDAConfig, exact: bool) -> None:
    layer, rank = make_layer(seed=2), 3
    factor = factorise_input(layer, config)
    Y = layer.output_sum.diagonal() / layer.tokens
    damping = config.output_damping * float(Y.mean())
    oracle = solve(layer, rank, config, factor.damping, damping)
    y, S, T_bar, N = 1 / (Y + damping), layer.examples, layer.tokens / layer.examples, config.population_size
    unit = T_bar if config.fisher_unit == "example" else 1.0
    assert N is not None
    variance = float(y.sum()) * (1 / (N * unit) + config.bias_weight * T_bar / (unit**2 * S))
    operator = Guidance(variance, config.bias_weight, in_float64(oracle.delta), factor)
    A, values = oracle.A.contiguous(), oracle.values[:rank]
    if not exact:
        A = torch.linalg.qr(oracle.A.T + 1e-3 * randn(5, 20, rank)).Q.T.contiguous()
        values = values * torch.tensor([1.0, 1.01, 0.99], dtype=torch.float64)
    found = measure_residual(layer, operator, y / unit, A, values)
    if exact:
        assert found < 1e-11
    else:
        wanted = (oracle.omega @ A.T - A.T * values).norm(dim=0).max() / values.abs().max()
        assert float(wanted) > 1e-4
        assert found == pytest.approx(float(wanted), rel=1e-9)
