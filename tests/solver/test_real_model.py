"""Every linear layer of a real model, solved for every preset and compared with the dense equations."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from oracles import largest_angle, relative_gap, solve

from lora_da import CollectionConfig, LoraDAConfig, Statistics, collect_statistics, solve_layer
from lora_da.solver.eigen import DENSE_LIMIT
from lora_da.solver.factors import SolverError
from lora_da.solver.solve import factorise_input

RANKS = (1, 8, 64)
EXAMPLES = 16
POPULATION = 7473  # GSM8K's training set
LEAST_GAP = 1e-3

PRESETS = {
    "default": LoraDAConfig(population_size=POPULATION),
    "paper": dataclasses.replace(LoraDAConfig.paper(), population_size=POPULATION),
    "released": dataclasses.replace(LoraDAConfig.released(), population_size=POPULATION),
}

pytestmark = pytest.mark.slow


@dataclass
class Row:
    """What was seen over the layers, for one preset and rank."""

    layers: int = 0
    below_gap: int = 0
    angle: float = 0.0
    error: float = 0.0
    trace: float = 0.0
    residual: float = 0.0
    raised: int = 0
    by_path: dict[str, int] = field(default_factory=lambda: {"dense": 0, "iterated": 0})
    failures: list[str] = field(default_factory=list)


def compare(statistics: Statistics, config: LoraDAConfig) -> dict[int, Row]:
    """Solve all layers for all ranks; the oracle is solved once a layer, with the dampings really used."""
    rows = {rank: Row() for rank in RANKS}
    group, factor = "", None
    for name in sorted(statistics.layers, key=lambda name: statistics.input_groups[name]):
        layer = statistics[name]
        if factor is None or statistics.input_groups[name] != group:
            group, factor = statistics.input_groups[name], factorise_input(layer, config)
        oracle = None
        for rank in RANKS:
            init = solve_layer(layer, rank, config, input_factor=factor)
            assert init is not None, f"{name} has no gradient"
            if oracle is None:
                oracle = solve(layer, max(RANKS), config, init.input_damping, init.output_damping)
            row = rows[rank]
            row.layers += 1
            row.by_path["dense" if layer.gradient_sum.shape[1] <= DENSE_LIMIT else "iterated"] += 1
            row.raised += bool(init.input_raised or init.output_raised)
            row.residual = max(row.residual, init.residual)
            trace = float(torch.einsum("ri,ij,rj->", init.A, oracle.omega, init.A))
            wanted = float(oracle.values[:rank].sum())
            trace_error = abs(trace - wanted) / abs(wanted)
            row.trace = max(row.trace, trace_error)
            problems = [f"tr(AΩAᵀ) is {trace_error:.1e} off"] if not trace_error <= 1e-6 else []
            if relative_gap(oracle.values, rank) > LEAST_GAP:
                expected = oracle.delta_A[:, :rank] @ oracle.A[:rank]
                error = float((init.delta_A @ init.A - expected).norm() / expected.norm())
                angle = largest_angle(init.A, oracle.A[:rank])
                row.error, row.angle = max(row.error, error), max(row.angle, angle)
                problems += [f"B·A is {error:.1e} off"] if not error <= 1e-3 else []
                problems += [f"the subspace is {angle:.1e} rad off"] if not angle <= 1e-3 else []
            else:
                row.below_gap += 1
            row.failures += [f"{name}: {problem}" for problem in problems]
    return rows


def summary(preset: str, rows: dict[int, Row]) -> Iterator[str]:
    yield "preset    rank  layers  below gap  max angle  max B·A err  max trace err  max residual  damping raised"
    for rank, row in rows.items():
        yield (
            f"{preset:8}  {rank:4}  {row.layers:6}  {row.below_gap:9}  {row.angle:9.1e}  {row.error:11.1e}  "
            f"{row.trace:13.1e}  {row.residual:12.1e}  {row.raised:14}"
        )
