from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_da_bench.analysis.significance import estimate_difference
from lora_da_bench.analysis.summary import RankSummary, summarise_records
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord
from simulated_records import ITEMS, description, record, simulated

EXPERIMENT = description()


def of(records: list[RunRecord], method: str, stage: str = "final") -> list[RunRecord]:
    return [found for found in records if (found.run.method, found.run.stage) == (method, stage)]


def summary_of(records: list[RunRecord]) -> RankSummary:
    (rank,) = summarise_records(records, EXPERIMENT).ranks
    return rank


def test_numbers_are_those_of_the_records() -> None:
    records = simulated(EXPERIMENT, {"lora-da": 0.05}, accuracy=0.4)
    rank = summary_of(records)
    assert [method.name for method in rank.methods] == list(EXPERIMENT.methods)
    for method in rank.methods:
        finals = of(records, method.name)
        assert method.selection is not None
        assert (method.selection.learning_rate, method.selection.step) == (1e-3, 20)
        assert method.seeds == (100, 101, 102)
        assert method.test_loss is not None
        assert method.test_loss.mean == pytest.approx(
            sum(sum(found.items.loss) for found in finals) / sum(sum(found.items.labels) for found in finals)
        )
        assert method.accuracy is not None
        assert method.accuracy.mean == pytest.approx(np.mean([found.items.correct for found in finals]))
        assert method.figures["forgetting"] == 0.25
        assert (method.figures["init_peak_gib"], method.figures["train_peak_gib"]) == (1, 2)
        assert method.seconds == 12
        assert method.adapter["alpha"] == 16
    assert rank.loss.winner == "lora-da"
    assert rank.accuracy is not None
    assert rank.accuracy.winner == "lora-da"
    assert rank.loss.items == ITEMS
    assert rank.loss.ranking[0] == "lora-da"
    assert set(rank.loss.ranking) == set(EXPERIMENT.methods)
    assert rank.missing == ()
    assert not rank.low_accuracy


def test_identical_methods_have_no_winner() -> None:
    assert summary_of(simulated(EXPERIMENT)).loss.winner is None


def test_conclusions_rest_on_the_loss_where_lora_answers_nothing() -> None:
    assert summary_of(simulated(EXPERIMENT, accuracy=0.03)).low_accuracy


@pytest.mark.parametrize(("rate", "edge"), [(1e-4, "lower"), (1e-2, "upper")])
def test_an_optimum_at_the_edge(rate: float, edge: str) -> None:
    rank = summary_of(simulated(EXPERIMENT, best_rate=rate))
    assert {method.selection.at_edge for method in rank.methods if method.selection} == {edge}


def test_a_grown_grid() -> None:
    grown = description(protocol={"learning_rates": [1e-4, 1e-3, 1e-2, 1e-1], "steps": 20, "evaluations": 2})
    rank = summary_of(simulated(grown))
    assert rank.grown == (0, 1)
    assert rank.missing == ()
    without = [found for found in simulated(grown) if (found.run.method, found.run.learning_rate) != ("pissa", 1e-1)]
    assert summary_of(without).missing == ("pissa: 3 of 12 runs of the sweep are missing",)


def test_a_missing_seed_shortens_what_is_paired_and_is_said() -> None:
    records = simulated(EXPERIMENT)
    gone = next(found for found in of(records, "pissa") if found.run.seed == 101)
    rank = summary_of([found for found in records if found is not gone])
    assert rank.loss.seeds == (100, 102)
    assert rank.missing == ("pissa: the final runs with seeds 101 are missing",)
    assert {method.name: method.seeds for method in rank.methods}["lora"] == (100, 101, 102)


def test_a_method_that_diverged_is_not_compared_and_prevents_a_winner() -> None:
    records = simulated(EXPERIMENT, {"lora-da": 0.05})
    bad = of(records, "pissa")[0]
    records[records.index(bad)] = replace(bad, status="diverged", items=replace(bad.items, loss=[]))
    summary = summarise_records(records, EXPERIMENT)
    (rank,) = summary.ranks
    assert rank.loss.not_compared == ("pissa",)
    assert rank.loss.seeds == (100, 101, 102)
    assert rank.loss.comparison.winner() == "lora-da"
    assert rank.loss.winner is None
    assert [found.run for found in summary.unsuccessful] == [bad.run]
    (method,) = (method for method in rank.methods if method.name == "pissa")
    assert (method.unsuccessful, method.seeds) == (1, (101, 102))


def test_final_runs_at_what_is_no_longer_selected_are_left_out() -> None:
    records = simulated(EXPERIMENT)
    for found in of(records, "pissa"):
        records[records.index(found)] = replace(found, run=replace(found.run, learning_rate=1e-2))
    rank = summary_of(records)
    assert rank.loss.not_compared == ("pissa",)
    assert "pissa: 3 final runs are not at what the sweep selects now, and are left out" in rank.missing


def test_other_items_are_not_compared() -> None:
    records = simulated(EXPERIMENT)
    for found in of(records, "pissa"):
        items = replace(found.items, loss=found.items.loss[1:], labels=found.items.labels[1:])
        records[records.index(found)] = replace(found, items=items)
    rank = summary_of(records)
    assert rank.loss.ranking == ()
    assert "the final runs have different test items, so no method is compared" in rank.missing


def test_lora_at_equal_compute() -> None:
    experiment = description(charge_init=True)
    records = simulated(experiment, {"lora-da": 0.05})
    longer = []
    for found in of(records, "lora"):
        run = Run("compute", "lora", 8, 1e-3, found.run.seed, 25, 25, charged_for="lora-da")
        longer.append(record(run, [Point(25, 12.5, 0.9)], found.items))
    (rank,) = summarise_records(records + longer, experiment).ranks
    (charged,) = rank.charged
    assert (charged.method, charged.steps, charged.seeds) == ("lora-da", 25, (100, 101, 102))
    # One comparison, so its interval is narrower than that of all pairs.
    mine, vanilla = (np.array([found.items.loss for found in of(records, name)]) for name in ("lora-da", "lora"))
    labels = np.array(longer[0].items.labels, dtype=float)
    assert charged.loss == estimate_difference(mine - vanilla, labels)
    (rank,) = summarise_records(records + longer[:2], experiment).ranks
    assert rank.charged[0].seeds == (100, 101)
    assert rank.missing == ("lora-da: LoRA at equal compute is missing for seeds 102",)
    lost = replace(longer[2], status="failed", items=Items())
    (rank,) = summarise_records([*records, *longer[:2], lost], experiment).ranks
    assert not rank.charged
    assert "lora-da: LoRA at equal compute diverged or failed with seeds 102" in rank.missing[0]


@pytest.mark.parametrize("stage", ["nothing", "sweep", "final"])
def test_unfinished_comparisons_are_summed_up(stage: str) -> None:
    records = [found for found in simulated(EXPERIMENT) if found.run.stage == stage]
    rank = summary_of(records)
    assert rank.loss.winner is None
    assert rank.loss.ranking == ()
    assert len(rank.missing) >= len(EXPERIMENT.methods)


def test_the_untouched_base_is_lora_at_step_0() -> None:
    records = simulated(EXPERIMENT)
    assert summary_of(records).base_loss is None
    for index, found in enumerate(of(records, "lora") + of(records, "pissa")):
        curve = [replace(found.curve[0], test_loss=1.5 + 0.1 * index), *found.curve[1:]]
        records[records.index(found)] = replace(found, curve=curve)
    assert summary_of(records).base_loss == pytest.approx(1.6)  # of 1.5, 1.6 and 1.7: PiSSA's are none of the base
