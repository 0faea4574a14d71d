from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lora_da_bench.experiment.description import TaskDescription
from lora_da_bench.experiment.splits import load_splits


def _write(path: Path, numbers: list[int]) -> str:
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in numbers), encoding="utf-8")
    return str(path)


def _described(train: str, test: str, **settings: Any) -> TaskDescription:
    return TaskDescription(kind="generation", train=train, test=test, **settings)


def _task(folder: Path, train: list[int], test: list[int], **changes: int) -> TaskDescription:
    settings = {"validation_rows": 5} | changes
    return _described(_write(folder / "a.jsonl", train), _write(folder / "b.jsonl", test), **settings)


def test_no_row_is_in_two_splits(tmp_path: Path) -> None:
    # Rows 0 to 3 are in the test split as well, and row 10 is there twice.
    splits = load_splits(_task(tmp_path, [*range(30), 10], [0, 1, 2, 3, 99]))
    train, validation, test = (set(part["text"]) for part in (splits.train, splits.validation, splits.test))
    assert not train & validation
    assert not (train | validation) & test
    assert len(validation) == 5
    assert len(splits.train) == len(train) == 30 - 4 - 5
    assert splits.removed == 5


def test_rows_with_the_same_words_are_the_same(tmp_path: Path) -> None:
    rows = [{"id": index, "text": text} for index, text in enumerate(["One, two.", "one two", "three four", "five"])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": 9, "text": "six"}]))
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": 77, "text": "Three FOUR!"}) + "\n")
    task = _described(str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), validation_rows=2)
    splits = load_splits(task)
    assert sorted([*splits.train["text"], *splits.validation["text"]]) == ["One, two.", "five", "six"]
    assert splits.removed == 2


def test_training_rows_stay_apart_from_what_is_held_out(tmp_path: Path) -> None:
    texts = [f"w{index} a{index} b{index}" for index in range(12)]
    phrases = [f"b{index} and more" for index in range(12)] + [f"a{index} b{index} again" for index in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts + phrases))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "so a3 b3"}) + "\n")
    files = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    all_of_them = load_splits(_described(*files, validation_rows=4))
    apart = load_splits(_described(*files, validation_rows=4, apart_words=2))

    def pairs(rows: Iterable[str]) -> set[tuple[str, ...]]:
        return {words for row in rows for words in itertools.pairwise(row.split())}

    held_out = pairs([*apart.validation["text"], *apart.test["text"]])
    assert all_of_them.validation["text"][:] == apart.validation["text"][:]
    kept = [text for text in all_of_them.train["text"] if not pairs([text]) & held_out]
    assert apart.train["text"][:] == kept
    assert len(kept) < len(all_of_them.train)
    assert apart.removed == len(all_of_them.train) - len(kept)


def test_limits(tmp_path: Path) -> None:
    splits = load_splits(_task(tmp_path, list(range(30)), list(range(50, 60)), train_rows=7, test_rows=3))
    assert len(splits.train) == 7
    assert splits.test["text"][:] == ["row 50", "row 51", "row 52"]


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is left to train on"):
        load_splits(_task(tmp_path, list(range(5)), [99]))
