"""What weakens a comparison, and where its numbers come from."""

from __future__ import annotations

from dataclasses import replace

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.report.setting import describe_runs, list_shortcomings
from simulated_records import description, simulated

EXPERIMENT = description()


def shortcomings(records: list[RunRecord]) -> list[str]:
    return list_shortcomings(summarise_records(records, EXPERIMENT), EXPERIMENT, records)


def test_runs_that_were_not_made_alike_are_told() -> None:
    records = simulated(EXPERIMENT)
    before = shortcomings(records)
    records[0].about["versions"] = records[0].about["versions"] | {"code": "0123456789ab"}
    first, second = [record for record in records if record.run.seed == 0][:2]
    first.about["order"], second.about["order"] = "one", "another"
    assert [text for text in shortcomings(records) if text not in before] == [
        "The runs were not all made with the same software: see the provenance.",
        "Runs with the same seed were not all trained on the same batches: their differences mean little.",
    ]
    second.about["order"] = "one"
    records[-1].about["order"] = "another"  # of another seed
    assert "Runs with the same seed" not in " ".join(shortcomings(records))


def test_runs_that_failed_are_counted() -> None:
    records = simulated(EXPERIMENT)
    for index in (0, -1):
        records[index] = replace(records[index], status="failed", curve=[])
    assert (records[0].run.stage, records[-1].run.stage) == ("sweep", "final")
    told = shortcomings(records)
    assert "1 runs of the sweep failed with an error; they count as diverged in the selection." in told
    assert [text for text in told if f"1 of {records[-1].run.method}'s final runs diverged or failed" in text]


def test_methods_that_were_added_later_are_named() -> None:
    summary = summarise_records([], EXPERIMENT)
    told = list_shortcomings(summary, EXPERIMENT, added=[("2026-02-01", ["pissa", "eva"])])
    assert "Added on 2026-02-01, when other methods may have had results: pissa, eva." in told


def test_runs_are_described_by_when_they_were_made() -> None:
    records = simulated(EXPERIMENT)[:3]
    for record, day in zip(records, ("02", "01", "03"), strict=True):
        record.about["finished"] = f"2026-01-{day}"
    assert describe_runs(records) == "3, finished from 2026-01-01 to 2026-01-03"
    assert describe_runs([]) == "0"
