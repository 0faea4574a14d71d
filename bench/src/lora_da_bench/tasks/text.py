"""Plain text: language modelling and perplexity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
from lora_da.loading.data import collator, encode_row
from torch import Tensor

from lora_da_bench.running.quiet import bar
from lora_da_bench.tasks.columns import cells
from lora_da_bench.tasks.task import Answer, Task


@dataclass(frozen=True, kw_only=True)
class Text(Task):
    """Texts to predict token by token.

    A text, with an end-of-sequence token, is cut into consecutive blocks. So each token is predicted once at most: the
    first of a block never is. A last block of a single token predicts nothing and is left out.

    Attributes:
        text: The column with the text.
        max_length: Tokens of a block.
    """

    text: str = "text"
    max_length: int = 1024

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError(f"max_length must be at least 2, not {self.max_length}: the first token is not predicted")

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """Tokenised blocks, in order, as many as the texts have.

        Raises:
            ValueError: A cell holds no text (the message names the row), or all are empty.
        """
        blocks = []
        for index, text in enumerate(bar(cells(rows, self.text), desc="Tokenising")):
            ids, _ = encode_row({"text": text}, index, tokenizer)
            cut = (ids[start : start + self.max_length] for start in range(0, len(ids), self.max_length))
            blocks += [block for block in cut if len(block) > 1]
        if not blocks:
            raise ValueError(f"There is no text in the column {self.text!r}.")
        masks = [[1] * len(block) for block in blocks]
        return datasets.Dataset.from_dict({"input_ids": blocks, "attention_mask": masks, "labels": blocks})

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        """See :meth:`Task.collator`."""
        return collator(tokenizer)

    def answer(self, model: Any, tokenizer: Any, rows: datasets.Dataset, batch_size: int) -> list[Answer]:
        """Raises ValueError: plain text asks for nothing."""
        raise ValueError("plain text has no answers; take its losses")
