"""The three splits of a comparison: training, validation (selects), test (is reported)."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import dataclass

import datasets

from lora_da.experiments.comparison.experiment import TaskChoice, expanded
from lora_da.experiments.rows import fingerprint, load_rows

_SEED = 0  # the same splits for every seed of a run


@dataclass(frozen=True)
class Splits:
    """Rows of the three splits; no row of validation or test occurs in training, and none of test in validation.

    Attributes:
        train: What methods may look at and training reads.
        validation: Selects learning rates and checkpoints.
        test: Touched by the final stage only.
        fingerprints: SHA-256 of each, by name.
        removed: Rows of the training data left out: they are in the test split as well, or there twice.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    fingerprints: dict[str, str]
    removed: int


def load_splits(task: TaskChoice) -> Splits:
    """Read and split the data of a task.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Too few rows are left to train on.
    """
    return _load_splits(task.train, task.test, task.train_rows, task.validation_rows, task.test_rows)


@functools.lru_cache(maxsize=1)  # every run of a comparison asks for the same
def _load_splits(train: str, test: str, train_rows: int, validation_rows: int, test_rows: int) -> Splits:
    test_split = load_rows(expanded(test), "test")
    rows = load_rows(expanded(train), "train")
    seen = {_key(row) for row in test_split}
    order = []
    for index, row in enumerate(rows):
        key = _key(row)
        if key not in seen:  # nor twice, or validation would hold rows of training
            seen.add(key)
            order.append(index)
    removed = len(rows) - len(order)
    random.Random(_SEED).shuffle(order)
    validation, left = order[:validation_rows], order[validation_rows:]
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


def _key(row: dict[str, object]) -> str:
    return json.dumps(row, sort_keys=True, default=str)
