"""Which runs come when, from records with made-up losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord
from lora_da_bench.experiment.schedule import list_later_stages, plan_runs, spread_measurements

Loss = Callable[[Run, int], float]


def experiment(**changes: Any) -> Experiment:
    protocol = {"learning_rates": [1e-4, 1e-3, 1e-2], "steps": 10, "evaluations": 2, "growth": 2}
    protocol["fresh_seeds"] = [100, 101, 102]
    base: dict[str, Any] = {
        "name": "made-up",
        "model": {"name": "none"},
        "task": {"kind": "generation", "train": "a", "test": "b"},
        "methods": ["lora", "lora-da"],
        "protocol": protocol | changes.pop("protocol", {}),
    }
    return describe_experiment(base | changes)


def carried_out(run: Run, loss: Loss, init_seconds: float = 1.0) -> RunRecord:
    curve = [Point(step, float(step), loss(run, step)) for step in (0, *spread_measurements(run.steps, 2))]
    seconds: dict[str, float | None] = {
        "init_seconds": init_seconds if run.method == "lora-da" else 0.01,
        "train_seconds": float(run.steps),
    }
    return RunRecord(run, "success", None, curve, Items(), seconds, {}, {})


def everything(description: Experiment, loss: Loss, **timing: float) -> list[RunRecord]:
    """Carry out what is planned until nothing more is."""
    records: list[RunRecord] = []
    while todo := [run for run in plan_runs(description, records) if run not in {r.run for r in records}]:
        records += [carried_out(run, loss, **timing) for run in todo]
        assert len(records) < 1000
    return records


def best_at(rates: dict[str, float], step: int = 10) -> Loss:
    """The loss is lowest at a method's own rate and at a step."""

    def loss(run: Run, at: int) -> float:
        away = abs(run.learning_rate / rates[run.method] - 1)
        return 1.0 + min(away, 5.0) + 0.1 * abs(at - step)

    return loss


def rates_of(records: list[RunRecord], stage: str, method: str) -> list[float]:
    return sorted({r.run.learning_rate for r in records if r.run.stage == stage and r.run.method == method})


def test_a_sweep_is_all_methods_at_all_rates_with_all_seeds() -> None:
    runs = plan_runs(experiment(), [])
    assert len(runs) == len(set(runs)) == 2 * 3 * 3
    assert {run.stage for run in runs} == {"sweep"}
    assert len({run.name for run in runs}) == len(runs)


def test_final_runs_have_fresh_seeds_and_the_selected_rate_and_step() -> None:
    records = everything(experiment(charge_init=False), best_at({"lora": 1e-3, "lora-da": 1e-3}, step=5))
    final = [record.run for record in records if record.run.stage == "final"]
    assert {run.seed for run in final} == {100, 101, 102}
    assert {(run.learning_rate, run.selected_step) for run in final} == {(1e-3, 5)}
    assert len(records) == 18 + 6


@pytest.mark.parametrize(("best", "grid"), [(1e-5, [1e-5, 1e-4, 1e-3, 1e-2]), (1e-1, [1e-4, 1e-3, 1e-2, 1e-1])])
def test_an_optimum_at_the_edge_makes_every_grid_grow(best: float, grid: list[float]) -> None:
    # The optimum of one method is at the first point outside; one point more shows that it is no edge.
    records = everything(experiment(charge_init=False), best_at({"lora": 1e-3, "lora-da": best}))
    wider = sorted([*grid, best / 10 if best < 1e-3 else best * 10])
    assert rates_of(records, "sweep", "lora") == rates_of(records, "sweep", "lora-da") == pytest.approx(wider)
    assert rates_of(records, "final", "lora-da") == pytest.approx([best])
    assert rates_of(records, "final", "lora") == [1e-3]


def test_growth_ends() -> None:
    records = everything(
        experiment(charge_init=False, protocol={"growth": 1}), best_at({"lora": 1e-3, "lora-da": 1e-9})
    )
    assert rates_of(records, "sweep", "lora") == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])


def test_the_same_plan_at_every_moment() -> None:
    description, loss = experiment(), best_at({"lora": 1e-3, "lora-da": 1e-2})
    whole = everything(description, loss)
    one_by_one: list[RunRecord] = []
    while todo := [run for run in plan_runs(description, one_by_one) if run not in {r.run for r in one_by_one}]:
        one_by_one.append(carried_out(todo[-1], loss))  # in another order
    assert {record.run for record in one_by_one} == {record.run for record in whole}


def test_vanilla_lora_gets_the_time_of_the_init() -> None:
    # An init of 3.5 s at one second a step is four steps more; of the two measurements the selected one is the first.
    records = everything(experiment(), best_at({"lora": 1e-3, "lora-da": 1e-3}, step=5), init_seconds=3.5)
    charged = [record.run for record in records if record.run.stage == "compute"]
    assert {(run.method, run.charged_for, run.steps, run.selected_step) for run in charged} == {
        ("lora", "lora-da", 14, 7)
    }
    assert {run.seed for run in charged} == {100, 101, 102}


def test_an_init_of_no_time_is_not_charged() -> None:
    records = everything(experiment(), best_at({"lora": 1e-3, "lora-da": 1e-3}), init_seconds=0.0)
    assert not [record for record in records if record.run.stage == "compute"]


def test_each_rank_is_a_comparison_of_its_own() -> None:
    def loss(run: Run, step: int) -> float:
        return best_at({"lora": 1e-3 if run.rank == 2 else 1e-2, "lora-da": 1e-3})(run, step)

    records = everything(experiment(ranks=[2, 8], charge_init=False), loss)
    by_rank = {rank: [r for r in records if r.run.rank == rank] for rank in (2, 8)}
    assert rates_of(by_rank[2], "final", "lora") == [1e-3]
    assert rates_of(by_rank[8], "final", "lora") == [1e-2]
    assert rates_of(by_rank[2], "sweep", "lora") != rates_of(by_rank[8], "sweep", "lora")


def test_a_method_that_always_diverges_is_left_out_of_the_final() -> None:
    def loss(run: Run, step: int) -> float:
        return float("inf") if run.method == "lora-da" else best_at({"lora": 1e-3})(run, step)

    records = everything(experiment(), loss)
    assert {record.run.method for record in records if record.run.stage == "final"} == {"lora"}


def test_measurements_end_with_the_last_step() -> None:
    assert spread_measurements(10, 5) == [2, 4, 6, 8, 10]
    assert spread_measurements(7, 3) == [3, 5, 7]
    assert spread_measurements(2, 5) == [1, 2]


def test_what_is_to_come_is_said_until_nothing_is() -> None:
    description, loss = experiment(), best_at({"lora": 1e-3, "lora-da": 1e-3})
    records: list[RunRecord] = []
    told = []
    while todo := [run for run in plan_runs(description, records) if run not in {r.run for r in records}]:
        told.append(list_later_stages(description, records))
        records += [carried_out(run, loss) for run in todo]
    assert [{"learning": "sweep", "final": "final", "equal": "compute"}[word] for word in _words(told[0])] == [
        "sweep",
        "final",
        "compute",
    ]
    assert "6 at each rank" in told[0][1]
    assert _words(told[1]) == ["equal"]
    assert told[2] == list_later_stages(description, records) == []
    assert _words(list_later_stages(experiment(charge_init=False, protocol={"growth": 0}), [])) == ["final"]


def _words(stages: list[str]) -> list[str]:
    return [next(word for word in ("learning", "final", "equal") if word in stage) for stage in stages]


@pytest.mark.parametrize("rates", [[1e-3, 1.0001e-3], [1e-3, 1e-3 + 1e-12], [5e-324, 1e-323], [1e300, 1e308]])
@pytest.mark.parametrize("growing", [False, True])
def test_a_comparison_ends_whatever_its_rates(rates: list[float], growing: bool) -> None:
    """Rates that are the same in three digits are runs, and files, of their own; and a grid grows to other rates."""
    description = experiment(protocol={"learning_rates": rates, "growth": 2 * growing})
    for favoured in (1e-310, 1e307):

        def loss(run: Run, _: int, favoured: float = favoured) -> float:
            return abs(math.log(run.learning_rate) - math.log(favoured))

        records = everything(description, loss)
        assert len({record.run.name for record in records}) == len(records)
        assert all(0 < record.run.learning_rate < float("inf") for record in records)
