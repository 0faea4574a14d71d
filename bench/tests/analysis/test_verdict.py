"""What is said of records whose effects are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.analysis.verdict import word_verdict
from lora_da_bench.experiment.record import RunRecord
from simulated_records import description, simulated


def worded(records: list[RunRecord], **changes: Any) -> str:
    """The verdict, a line for each rank and measure."""
    return "\n".join(word_verdict(summarise_records(records, description(**changes))))


def test_a_planted_better_method_is_named() -> None:
    verdict = worded(simulated(description(), {"lora-da": 0.05}))
    assert "Rank 8, test loss: lora-da is better than every other method." in verdict
    assert "Shown to be better than lora: lora-da." in verdict


def test_of_identical_methods_none_is_named() -> None:
    verdict = worded(simulated(description()))
    assert "No method is shown to be better than every other." in verdict
    assert "None is shown to differ from lora." in verdict
    assert "could go unseen" in verdict
    assert "is better than" not in verdict


def test_a_worse_method_is_named_as_worse() -> None:
    verdict = worded(simulated(description(), {"pissa": -0.05}))
    assert "Shown to be worse than lora: pissa." in verdict
    assert "No method is shown to be better than every other." in verdict


def test_the_verdict_names_learning_rates_at_the_edge() -> None:
    assert "edge" not in worded(simulated(description(), {"lora-da": 0.05}))
    inside, outside = (simulated(description(), {"lora-da": 0.05}, best_rate=rate) for rate in (1e-3, 1e-2))
    records = [found for found in inside if found.run.method != "pissa"]
    records += [found for found in outside if found.run.method == "pissa"]
    (line,) = [line for line in worded(records).splitlines() if "lora-da is better than every" in line]
    assert "But the selected learning rate lies at the edge of the grid for pissa (upper)" in line


def test_the_verdict_names_few_seeds() -> None:
    assert "fresh seed" not in worded(simulated(description(), {"lora-da": 0.3}))
    records = [found for found in simulated(description(), {"lora-da": 0.3}) if found.run.seed != 102]
    (line,) = [line for line in worded(records).splitlines() if "lora-da is better than every" in line]
    assert "But all this rests on 2 fresh seeds" in line


def longer_lora(records: list[RunRecord], gain: float) -> list[RunRecord]:
    """LoRA with the time of LoRA-DA's initialisation, which takes something off its loss per label."""
    found = []
    for final in records:
        if (final.run.method, final.run.stage) == ("lora", "final"):
            loss = [x - gain * count for x, count in zip(final.items.loss, final.items.labels, strict=True)]
            run = replace(final.run, stage="compute", steps=25, selected_step=25, charged_for="lora-da")
            found.append(replace(final, run=run, items=replace(final.items, loss=loss)))
    return found


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.0, "Better than lora also at equal compute, where lora gets the time of the initialisation as more steps: "),
        (0.05, "NOT shown to be better than lora at equal compute, where lora gets the time"),
        (0.2, "Shown to be worse than lora at equal compute, where lora gets the time"),
    ],
)
def test_the_verdict_says_what_remains_at_equal_compute(gain: float, expected: str) -> None:
    records = simulated(description(), {"lora-da": 0.05})
    (line,) = [
        line
        for line in worded(records + longer_lora(records, gain), charge_init=True).splitlines()
        if "lora-da is better than every other method." in line
    ]
    assert expected in line
    assert ("Better than lora also" in line) == (gain == 0.0)
    assert "Not compared" not in line


def test_the_verdict_says_where_compute_was_not_made_equal() -> None:
    records = simulated(description(), {"lora-da": 0.05})
    assert "Not compared with lora at equal compute: lora-da." in worded(records)
    for found in records:
        found.metrics["init_seconds"] = 0.09  # of 10 seconds of training
    text = worded(records)
    assert "compute is equal as it is, the initialisation being under 1% of the training: lora-da." in text
    assert "Not compared" not in text
