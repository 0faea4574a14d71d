"""Answers that a model writes out, such as GSM8K's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
from lora_da.loading.data import Columns, collator, joined_prompt, resolve_columns, tokenize
from torch import Tensor

from lora_da_bench.running.evaluation import exact_match, generate, predicted_number, reference_number
from lora_da_bench.tasks.columns import texts
from lora_da_bench.tasks.task import Answer, Task


@dataclass(frozen=True, kw_only=True)
class Generation(Task):
    """The model continues the prompt greedily; its number after ``####`` must be the reference's, exactly.

    Attributes:
        prompt: The column with the question.
        completion: The column with the solution, which ends in ``#### number``.
        max_length: Longer examples lose their end in training and in losses; prompts of answers stay whole.
        max_new_tokens: Most tokens of an answer.
    """

    prompt: str = "prompt"
    completion: str = "completion"
    max_length: int = 1024
    max_new_tokens: int = 256

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """See :meth:`Task.encode`."""
        columns = resolve_columns(rows.column_names, Columns(prompt=self.prompt, completion=self.completion))
        return tokenize(rows, tokenizer, columns, self.max_length)

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        """See :meth:`Task.collator`."""
        return collator(tokenizer)

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._expected(rows)

    def _expected(self, rows: datasets.Dataset) -> list[str]:
        expected = []
        for index, reference in enumerate(texts(rows, self.completion)):
            try:
                expected.append(reference_number(reference))
            except ValueError as error:
                raise ValueError(f"Row {index}: {error}") from error
        return expected

    def answer(self, model: Any, tokenizer: Any, rows: datasets.Dataset, batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`.

        Raises:
            ValueError: A reference has no number after ``####``, or a cell no text; the message names the row.
        """
        references, expected = texts(rows, self.completion), self._expected(rows)
        # The prompt as it is in training.
        prompts = [joined_prompt(*pair) for pair in zip(texts(rows, self.prompt), references, strict=True)]
        outputs = generate(model, tokenizer, prompts, max_new_tokens=self.max_new_tokens, batch_size=batch_size)
        return [
            Answer(exact_match(output, reference), predicted_number(output), number, output)
            for output, reference, number in zip(outputs, references, expected, strict=True)
        ]
