"""Layers that several processes share out are solved as by one alone; each process is a thread here."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from lora_da import CollectionConfig, Statistics
from lora_da.distributed.processes import ProcessError, Processes
from lora_da.pipeline._shared_solution import assign_layers, solve_layers_together
from lora_da.pipeline.solution import solve_layers
from lora_da.solver.factors import SolverError
from lora_da.statistics.sums import ModelIdentity
from oracles import randn
from presets import PARAMETERS

CONFIG = dataclasses.replace(PARAMETERS, population_size=1000)
SHAPES = {"q": (6, 4), "up": (2, 8), "k": (2, 4), "o": (2, 4), "silent": (3, 4)}  # q and k share their input
RANKS = dict.fromkeys(SHAPES, 2)
CPU = torch.device("cpu")


def statistics() -> Statistics:
    inputs = {name: randn(index, 20, d_in) for index, (name, (_, d_in)) in enumerate(SHAPES.items()) if name != "k"}
    sums = Statistics(
        gradient_sums={name: randn(9, *shape) for name, shape in SHAPES.items()},
        output_sums={name: randn(8, 20, d_out).square().sum(0) for name, (d_out, _) in SHAPES.items()},
        input_sums={name: a.T @ a for name, a in inputs.items()},
        input_groups={name: "q" if name == "k" else name for name in SHAPES},
        tokens=dict.fromkeys(SHAPES, 20),
        examples=8,
        loss_sum=1.0,
        config=CollectionConfig(),
        model=ModelIdentity(signature=torch.ones(3)),
    )
    sums.gradient_sums["silent"].zero_()
    return sums


@dataclasses.dataclass(frozen=True)
class Threads(Processes):
    """A thread of several, which exchange what they have at a table."""

    table: list[Any]
    barrier: threading.Barrier

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        self.table[self.rank] = value
        self.barrier.wait()
        found = list(self.table)
        self.barrier.wait()
        return found

    def broadcast_object(self, source: int, value: Any, doing: str) -> Any:
        return self.gather_objects(value, doing)[source]


def solved_by(size: int, sums: Statistics) -> list[Any]:
    """What each of some processes ends up with: the solutions, or its error."""
    table, barrier = [None] * size, threading.Barrier(size, timeout=60)

    def solve(rank: int) -> Any:
        processes = Threads(rank, size, CPU, table, barrier)
        try:
            return solve_layers_together(sums, RANKS, CONFIG, CPU, processes, progress=False)
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(solve, range(size)))


def test_the_costly_groups_are_dealt_out_first() -> None:
    """Costs d_in² (d_in + d_out): up 640, q and k 160 + 96, silent 112, o 96."""
    assert assign_layers(statistics(), RANKS, 2) == {"up": 0, "q": 1, "k": 1, "silent": 1, "o": 1}
    assert assign_layers(statistics(), RANKS, 3) == {"up": 0, "q": 1, "k": 1, "silent": 2, "o": 2}
    some = {"o": 1, "unseen": 1}
    assert assign_layers(statistics(), some, 2) == {"o": 0, "unseen": 1}


@pytest.mark.parametrize("size", [2, 6])
def test_all_have_what_one_alone_finds(size: int) -> None:
    """Six are more than there are groups."""
    wanted, reasons = solve_layers(statistics(), RANKS, CONFIG, CPU, progress=False)
    assert list(reasons) == ["silent"]
    for found, unsolved in solved_by(size, statistics()):
        assert unsolved == reasons
        assert list(found) == list(wanted)
        for name, init in wanted.items():
            assert torch.equal(found[name].A, init.A)
            assert torch.equal(found[name].delta_A, init.delta_A)


def test_an_unusable_layer_ends_all() -> None:
    sums = statistics()
    sums.gradient_sums["o"][0, 0] = float("nan")
    other, owner = solved_by(2, sums)
    assert isinstance(owner, SolverError)
    assert isinstance(other, ProcessError)
    assert "process 1: SolverError: layer o: the gradient is not finite" in str(other)
