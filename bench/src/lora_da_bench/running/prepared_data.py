"""The data of a comparison, read and tokenised once for all of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.splits import Splits, load_splits
from lora_da_bench.running.held_out import HeldOutRows, UnrelatedText
from lora_da_bench.tasks.task import Task


@dataclass(frozen=True)
class PreparedData:
    """Tokenised data of a task.

    Attributes:
        splits: The rows that they were made of.
        train: Training examples.
        lengths: Tokens of each of them.
        validation: Selects.
        test: Is reported.
        questions: To the test rows, see :meth:`Task.pose`; none where no answers are taken.
        unrelated: For forgetting, if that is measured.
    """

    splits: Splits
    train: datasets.Dataset
    lengths: list[int]
    validation: HeldOutRows
    test: HeldOutRows
    questions: Sequence[Any]
    unrelated: UnrelatedText | None

    def describe(self, max_length: int) -> dict[str, Any]:
        """Describe the data in a record's terms."""
        return {
            "fingerprints": self.splits.fingerprints,
            "rows": {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            "rows_removed": self.splits.removed,
            "rows_cut": {
                "train": sum(length >= max_length for length in self.lengths),
                "validation": self.validation.cut,
                "test": self.test.cut,
            },
        }


_latest: dict[str, PreparedData] = {}


def prepare_data(experiment: Experiment, task: Task, tokenizer: Any) -> PreparedData:
    """Read, split and tokenise the data of an experiment, or take what was made for its last run.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A row is malformed or too long, or too few are left to train on.
    """
    key = experiment.model_dump_json(include={"model", "task", "forgetting"})
    if key not in _latest:
        splits = load_splits(experiment.task)
        train = task.encode(splits.train, tokenizer)
        prepared = PreparedData(
            splits=splits,
            train=train,
            lengths=[len(ids) for ids in train["input_ids"]],
            validation=HeldOutRows(task, splits.validation, tokenizer),
            test=HeldOutRows(task, splits.test, tokenizer),
            questions=task.pose(splits.test, tokenizer) if experiment.task.accuracy else (),
            unrelated=None if experiment.forgetting is None else UnrelatedText(experiment.forgetting, tokenizer),
        )
        _latest.clear()  # one comparison at a time
        _latest[key] = prepared
    return _latest[key]
