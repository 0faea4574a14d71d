from __future__ import annotations

from pathlib import Path

import pytest

from lora_da_bench.laboratory.runs import (
    Grid,
    LaboratoryRecord,
    LaboratoryRun,
    append_record,
    list_missing,
    load_records,
)

GRID = Grid(("a", "b"), ("eva", "whitened-1"), (2, 4), (1e-3, 1e-2), (0, 1))


def record_of(run: LaboratoryRun, loss: float | None = 1.0) -> LaboratoryRecord:
    if loss is None:
        return LaboratoryRecord(run, "diverged", None, None, (), 0.1, "code")
    return LaboratoryRecord(run, "success", loss, loss, (loss, loss + 1), 0.1, "code")


def test_a_grid_is_every_combination_one_seed_after_another() -> None:
    runs = list(GRID.runs())
    assert len(set(runs)) == len(runs) == 2 * 3 * 2 * 2 * 2
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.arm for run in runs} == {"eva_frozen", "whitened_1_frozen", "lora_trained"}
    trained = Grid(("a",), ("eva",), (2,), (1e-3,), (0,), train_a=True)
    assert [run.arm for run in trained.runs()] == ["eva_frozen", "eva_trained", "lora_trained"]


def test_records_survive_an_interrupted_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first, second, third = list(GRID.runs())[:3]
    append_record(path, record_of(first))
    whole = path.read_bytes()
    append_record(path, record_of(second))
    path.write_bytes(path.read_bytes()[: len(whole) + 40])
    assert load_records(path) == {first: record_of(first)}
    append_record(path, record_of(third, None))
    append_record(path, record_of(first, 5.0))  # a second process had the same run
    assert load_records(path) == {first: record_of(first), third: record_of(third, None)}
    missing = list_missing(GRID, load_records(path))
    assert missing[0] == second
    assert first not in missing
    assert third not in missing


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"seed": 1}\n')
    with pytest.raises(ValueError, match=r"runs.jsonl, line 1 is no record of a run"):
        load_records(path)
