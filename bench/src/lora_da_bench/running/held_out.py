"""Rows and text that losses are measured on along a run."""

from __future__ import annotations

from typing import Any

import datasets
from torch.utils.data import DataLoader

from lora_da.loading import load_rows
from lora_da_bench.experiment.description import Forgetting, expand_path
from lora_da_bench.tasks.item_losses import ItemLosses, measure_item_losses
from lora_da_bench.tasks.supervised_examples import padding_collator, tokenize_examples
from lora_da_bench.tasks.task import Task

BATCH_SIZE = 16


class HeldOutRows:
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

    def __len__(self) -> int:
        return len(self._places)

    def measure(self, model: Any) -> ItemLosses:
        """Measure the rows' losses, in the order of the rows; see :func:`measure_item_losses`."""
        found = measure_item_losses(model, self._batches)
        return ItemLosses(
            [found.losses[place] for place in self._places], [found.labels[place] for place in self._places]
        )


class UnrelatedText:
    """Text that has nothing to do with the task: what the loss on it gains, the model has forgotten.

    A text, with an end-of-sequence token, is cut into consecutive blocks, so that each token is predicted once at most:
    the first of a block never is. A last block of a single token predicts nothing and is left out.
    """

    def __init__(self, forgetting: Forgetting, tokenizer: Any) -> None:
        """Read and tokenise.

        Raises:
            ValueError: The data have no column ``text``.
        """
        rows = load_rows(expand_path(forgetting.data), "test")
        if "text" not in rows.column_names:
            raise ValueError(f"{forgetting.data} has no column 'text', but {', '.join(rows.column_names)}")
        blocks: list[dict[str, list[int]]] = []
        for ids in tokenize_examples(rows.select_columns(["text"]), tokenizer, None)["input_ids"]:
            cuts = (ids[start : start + forgetting.length] for start in range(0, len(ids), forgetting.length))
            blocks += [{"input_ids": cut, "labels": cut} for cut in cuts if len(cut) > 1]
        chosen: Any = blocks[: forgetting.blocks]
        self._batches = list(DataLoader(chosen, BATCH_SIZE // 2, collate_fn=padding_collator(tokenizer)))

    def measure(self, model: Any) -> float:
        """Measure the mean loss per token."""
        return measure_item_losses(model, self._batches).mean
