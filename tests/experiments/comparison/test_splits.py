from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_da.experiments.comparison.experiment import TaskChoice
from lora_da.experiments.comparison.splits import load_splits


def _write(path: Path, numbers: list[int]) -> str:
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in numbers), encoding="utf-8")
    return str(path)


def _task(folder: Path, train: list[int], test: list[int], **changes: int) -> TaskChoice:
    settings = {"validation_rows": 5} | changes
    return TaskChoice("generation", _write(folder / "a.jsonl", train), _write(folder / "b.jsonl", test), **settings)


def test_no_row_is_in_two_splits(tmp_path: Path) -> None:
    # Rows 0 to 3 are in the test split as well, and row 10 is there twice.
    splits = load_splits(_task(tmp_path, [*range(30), 10], [0, 1, 2, 3, 99]))
    train, validation, test = (set(part["text"]) for part in (splits.train, splits.validation, splits.test))
    assert not train & validation
    assert not (train | validation) & test
    assert len(validation) == 5
    assert len(splits.train) == len(train) == 30 - 4 - 5
    assert splits.removed == 5


def test_limits(tmp_path: Path) -> None:
    splits = load_splits(_task(tmp_path, list(range(30)), list(range(50, 60)), train_rows=7, test_rows=3))
    assert len(splits.train) == 7
    assert splits.test["text"][:] == ["row 50", "row 51", "row 52"]


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is left to train on"):
        load_splits(_task(tmp_path, list(range(5)), [99]))
