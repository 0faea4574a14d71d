"""Rows that losses are measured on along a run."""

from __future__ import annotations

from typing import Any

import datasets
from torch.utils.data import DataLoader

from lora_da_bench.running.evaluation import ItemLosses, item_losses
from lora_da_bench.tasks.task import Task

BATCH_SIZE = 16


class HeldOut:
    """The rows of a split in batches of like lengths, which hold little padding.

    The batches are the same for every run: in lower precision an example's loss depends on them.

    Attributes:
        cut: How many rows are as long as the task's ``max_length`` allows, so that most of them have lost their end.
    """

    def __init__(self, task: Task, rows: datasets.Dataset, tokenizer: Any) -> None:
        """Tokenise.

        Raises:
            ValueError: A row has no label within the task's ``max_length``.
        """
        examples = task.encode(rows, tokenizer)
        if len(examples) < len(rows):
            raise ValueError(
                f"{len(rows) - len(examples)} of {len(rows)} rows to measure on have no label within max_length: raise "
                "task.options.max_length, or take those rows out"
            )
        lengths = [len(ids) for ids in examples["input_ids"]]
        self.cut = sum(length >= task.max_length for length in lengths)
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        self._places = sorted(range(len(order)), key=order.__getitem__)  # of each row in that order
        self._batches = list(DataLoader(examples.select(order), BATCH_SIZE, collate_fn=task.collator(tokenizer)))

    def losses(self, model: Any) -> ItemLosses:
        """The rows' losses, in the order of the rows; see :func:`item_losses`."""
        found = item_losses(model, self._batches)
        return ItemLosses(
            [found.losses[place] for place in self._places], [found.labels[place] for place in self._places]
        )
