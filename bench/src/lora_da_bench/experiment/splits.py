"""The three splits of a comparison: training, validation (selects), test (is reported).

Rows are the same where their texts have the same words, whatever their numbers or identifiers: of two with one text,
one is kept, and none that the test split has.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets

from lora_da.loading import fingerprint, load_rows
from lora_da_bench.experiment.description import TaskDescription, expand_path

_SEED = 0  # the same splits for every seed of a run


@dataclass(frozen=True)
class Splits:
    """Rows of the three splits; no row of validation or test occurs in training, and none of test in validation.

    Attributes:
        train: What methods may look at and training reads.
        validation: Selects learning rates and checkpoints.
        test: Touched by the final stage only.
        fingerprints: SHA-256 of each, by name.
        removed: Rows of the training data left out: they are in another split as well, there twice, or too much like
            a row of another split.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    fingerprints: dict[str, str]
    removed: int


def load_splits(task: TaskDescription) -> Splits:
    """Read and split the data of a task.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Too few rows are left to train on.
    """
    return _load_splits(task.train, task.test, task.train_rows, task.validation_rows, task.test_rows, task.apart_words)


@functools.lru_cache(maxsize=1)  # every run of a comparison asks for the same
def _load_splits(
    train: str, test: str, train_rows: int, validation_rows: int, test_rows: int, apart_words: int
) -> Splits:
    test_split = load_rows(expand_path(test), "test")
    rows = load_rows(expand_path(train), "train")
    test_words, words = [_words(row) for row in test_split], [_words(row) for row in rows]
    seen = set(test_words)
    order = []
    for index, key in enumerate(words):
        if key not in seen:  # nor twice, or validation would hold rows of training
            seen.add(key)
            order.append(index)
    random.Random(_SEED).shuffle(order)
    validation, left = order[:validation_rows], order[validation_rows:]
    if apart_words:
        held_out = set().union(*(_runs(row, apart_words) for row in [*test_words, *(words[i] for i in validation)]))
        left = [index for index in left if held_out.isdisjoint(_runs(words[index], apart_words))]
    removed = len(rows) - len(validation) - len(left)
    if not left:
        raise ValueError(
            f"{train} has {len(order)} rows that occur once and not in the test split, and validation takes "
            f"{validation_rows}: nothing is left to train on (set task.validation_rows)"
        )
    splits = {
        "train": rows.select(sorted(left[: train_rows or len(left)])),
        "validation": rows.select(sorted(validation)),
        "test": test_split.select(range(min(test_rows or len(test_split), len(test_split)))),
    }
    return Splits(**splits, fingerprints={name: fingerprint(part) for name, part in splits.items()}, removed=removed)


def _words(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of a row's texts; all of a row that has none."""
    texts = [value for value in row.values() if isinstance(value, str)]
    return tuple(re.findall(r"\w+", " ".join(texts or [json.dumps(row, default=str)]).lower()))


def _runs(words: tuple[str, ...], length: int) -> set[tuple[str, ...]]:
    return {words[start : start + length] for start in range(len(words) - length + 1)}
