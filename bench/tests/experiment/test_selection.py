from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lora_da_bench.experiment.record import Point, Run, RunRecord, Status
from lora_da_bench.experiment.selection import Selection, average_sweep, select_rates
from simulated_records import record

Losses = dict[float, list[list[float]]]


def sweep(losses: Losses, method: str = "lora", rank: int = 8) -> list[RunRecord]:
    """Runs by learning rate, then seed: their losses at steps 0, 5 and 10."""
    return [
        record(
            Run("sweep", method, rank, rate, seed, 10),
            [Point(step, step, loss) for step, loss in zip((0, 5, 10), curve, strict=True)],
        )
        for rate, curves in losses.items()
        for seed, curve in enumerate(curves)
    ]


def ended(found: RunRecord, status: Status) -> RunRecord:
    return replace(found, status=status, curve=found.curve[:1] if status == "diverged" else [])


GOOD: Losses = {1e-3: [[3, 2, 2], [3, 2, 2]], 1e-2: [[3, 1.5, 1], [3, 1, 1.75]], 1e-1: [[3, 2, 2], [3, 2, 2]]}


def test_the_best_mean_over_seeds_and_steps_is_selected() -> None:
    records = sweep(GOOD)
    assert average_sweep(records)["lora", 1e-2, 5] == 1.25
    assert select_rates(records, ["lora"], 8) == {"lora": Selection(1e-2, 5, 1.25, None)}


def test_step_zero_is_not_eligible() -> None:
    records = sweep({1e-3: [[0.5, 2, 2.5]], 1e-2: [[0.5, 3, 3]]})
    assert select_rates(records, ["lora"], 8)["lora"].step == 5


@pytest.mark.parametrize(("best", "edge"), [(1e-3, "lower"), (1e-2, None), (1e-1, "upper")])
def test_the_edge_of_the_grid(best: float, edge: str | None) -> None:
    records = sweep({rate: [[3, 2, 1 if rate == best else 2]] for rate in (1e-3, 1e-2, 1e-1)})
    assert select_rates(records, ["lora"], 8)["lora"] == Selection(best, 10, 1, edge)  # type: ignore[arg-type]


def test_of_equal_losses_the_smaller_rate_and_the_earlier_step_win() -> None:
    records = sweep({1e-2: [[3, 1, 1]], 1e-3: [[3, 1, 1]], 1e-4: [[3, 2, 2]]})
    assert select_rates(records, ["lora"], 8)["lora"] == Selection(1e-3, 5, 1, None)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_one_run_gone_wrong_rules_its_grid_point_out_and_still_bounds_the_grid(status: Status) -> None:
    records = sweep(GOOD)
    for index, found in enumerate(records):
        if found.run.learning_rate == 1e-1 and found.run.seed == 1:
            records[index] = ended(found, status)
    assert average_sweep(records)["lora", 1e-1, 10] == math.inf
    assert select_rates(records, ["lora"], 8)["lora"].at_edge is None
    everything = [ended(found, status) for found in records]
    assert select_rates(everything, ["lora"], 8) == {}


def test_a_grid_point_counts_once_all_seeds_are_there() -> None:
    records = [found for found in sweep(GOOD) if (found.run.learning_rate, found.run.seed) != (1e-2, 1)]
    assert select_rates(records, ["lora"], 8)["lora"].learning_rate == 1e-3
    assert select_rates(sweep(GOOD), ["lora"], 8, seeds=(0, 1, 2)) == {}


def test_methods_and_ranks_are_apart() -> None:
    records = sweep(GOOD) + sweep({1e-3: [[3, 2, 0.1]] * 2}, "pissa") + sweep({1e-3: [[3, 2, 0.1]] * 2}, rank=2)
    assert select_rates(records, ["lora", "pissa", "eva"], 8) == {
        "lora": Selection(1e-2, 5, 1.25, None),
        "pissa": Selection(1e-3, 10, 0.1, "lower"),
    }
