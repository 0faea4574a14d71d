"""The data of a comparison, read and tokenised once for all of its runs."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from dataclasses import dataclass
from typing import Any

import datasets

from lora_da.loading import PreparedExamples, RowFormat, load_rows, prepare_examples
from lora_da_bench.experiment.description import Experiment, Forgetting, expand_path
from lora_da_bench.experiment.splits import Splits, load_splits
from lora_da_bench.tasks.task import Task


@dataclass(frozen=True)
class PreparedData:
    """Tokenised data of a task.

    Attributes:
        splits: The rows that they were made of.
        train: Training examples.
        validation: Selects.
        test: Is reported.
        questions: To the test rows, see :meth:`Task.pose`; None where no answers are taken.
        unrelated: Text that has nothing to do with the task: what the loss on it gains, the model has forgotten. None
            where that is not measured.
    """

    splits: Splits
    train: PreparedExamples
    validation: PreparedExamples
    test: PreparedExamples
    questions: Any
    unrelated: PreparedExamples | None

    def describe(self, max_length: int) -> dict[str, Any]:
        """Describe the data in a record's terms."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "fingerprints": self.splits.fingerprints,
            "rows": {name: len(part) for name, part in parts.items()},
            "rows_removed": self.splits.removed,
            "rows_cut": {name: sum(length >= max_length for length in part.lengths) for name, part in parts.items()},
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
        prepared = PreparedData(
            splits=splits,
            train=task.encode(splits.train, tokenizer),
            validation=_held_out(task, splits.validation, tokenizer),
            test=_held_out(task, splits.test, tokenizer),
            questions=task.pose(splits.test, tokenizer) if experiment.task.accuracy else None,
            unrelated=None if experiment.forgetting is None else _unrelated_text(experiment.forgetting, tokenizer),
        )
        _latest.clear()  # one comparison at a time
        _latest[key] = prepared
    return _latest[key]


def _held_out(task: Task, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
    examples = task.encode(rows, tokenizer)
    if len(examples) < len(rows):
        raise ValueError(
            f"{len(rows) - len(examples)} of {len(rows)} rows to measure on have no label within max_length: raise "
            "task.options.max_length, or take those rows out"
        )
    return examples


def _unrelated_text(forgetting: Forgetting, tokenizer: Any) -> PreparedExamples:
    """Consecutive blocks of texts with their end-of-sequence tokens.

    So each token is predicted once at most: the first of a block never is. A last block of a single token predicts
    nothing and is left out.
    """
    rows = load_rows(expand_path(forgetting.data), "test", sample_by="document")
    form = RowFormat(text_column="text", max_length=sys.maxsize)
    texts = prepare_examples(rows.select_columns(["text"]), tokenizer, form)
    cuts = (
        ids[start : start + forgetting.length]
        for ids in texts.rows["input_ids"]
        for start in range(0, len(ids), forgetting.length)
    )
    blocks = list(itertools.islice((block for block in cuts if len(block) > 1), forgetting.blocks))
    return dataclasses.replace(texts, rows=datasets.Dataset.from_dict({"input_ids": blocks, "labels": blocks}))
