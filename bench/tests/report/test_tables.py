"""Verdicts in cells; the tables as a reader sees them are in ``test_writing``."""

from __future__ import annotations

import pytest

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.report.tables import list_verdicts, tabulate_verdict
from simulated_records import description, simulated

EXPERIMENT = description()


def rows_of(gains: dict[str, float], accuracy: float | None = None) -> list[dict[str, str]]:
    header, rows = list_verdicts(summarise_records(simulated(EXPERIMENT, gains, accuracy=accuracy), EXPERIMENT))
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_each_method_is_told_better_worse_or_neither() -> None:
    found = {row["method"]: row for row in rows_of({"lora-da": 0.05, "pissa": -0.05})}
    assert {name: row["against LoRA"] for name, row in found.items()} == {
        "pissa": "worse",
        "lora-one": "not shown",
        "lora-da": "better",
    }
    assert {row["measure"] for row in found.values()} == {"test loss"}
    assert {row["at equal compute"] for row in found.values()} == {"–"}
    assert float(found["lora-da"]["difference, simultaneous 95 %"].split()[0]) == pytest.approx(-0.05, abs=0.01)


def test_a_higher_accuracy_is_better() -> None:
    found = rows_of({"lora-da": 0.1}, accuracy=0.4)
    verdicts = {row["measure"]: row["against LoRA"] for row in found if row["method"] == "lora-da"}
    assert verdicts == {"test loss": "better", "accuracy": "better"}
    assert {row["measure"] for row in rows_of({}, accuracy=0.03)} == {"test loss"}  # too low to say anything


def test_nothing_is_tabulated_where_nothing_is_compared() -> None:
    assert tabulate_verdict(summarise_records([], EXPERIMENT)) is None
