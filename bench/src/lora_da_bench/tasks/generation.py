"""Answers that a model writes out, such as GSM8K's."""

from __future__ import annotations

from typing import Any

import datasets
from pydantic import Field, PositiveInt

from lora_da.loading import PreparedExamples
from lora_da_bench.tasks.greedy_decoding import continue_prompts
from lora_da_bench.tasks.number_grading import match_numbers, read_prediction, read_reference
from lora_da_bench.tasks.task import Answer, Task, pair_texts, prepare_pairs, read_texts


class Generation(Task):
    """The model continues the prompt greedily; its number after ``####`` must be the reference's, exactly."""

    prompt: str = Field(default="prompt", description="the column with the question")
    completion: str = Field(
        default="completion", description="the column with the solution, which ends in `#### number`"
    )
    max_length: PositiveInt = Field(
        default=1024, description="longer examples lose their end in training and in losses"
    )
    max_new_tokens: PositiveInt = Field(default=256, description="most tokens of an answer")

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """See :meth:`Task.encode`."""
        return prepare_pairs(self._pairs(rows), tokenizer, self.max_length)

    def _pairs(self, rows: datasets.Dataset) -> datasets.Dataset:
        return pair_texts(read_texts(rows, self.prompt), read_texts(rows, self.completion))

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._expected(rows)

    def _expected(self, rows: datasets.Dataset) -> list[str]:
        expected = []
        for index, reference in enumerate(read_texts(rows, self.completion)):
            try:
                expected.append(read_reference(reference))
            except ValueError as error:
                raise ValueError(f"Row {index}: {error}") from error
        return expected

    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> list[tuple[str, str]]:
        """See :meth:`Task.pose`; the questions are the prompts of training, each with the right number."""
        return list(zip(self._pairs(rows)["prompt"], self._expected(rows), strict=True))

    def answer(self, model: Any, tokenizer: Any, questions: list[tuple[str, str]], batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; the outputs are texts."""
        prompts = [prompt for prompt, _ in questions]
        texts = continue_prompts(model, tokenizer, prompts, max_new_tokens=self.max_new_tokens, batch_size=batch_size)
        return [
            Answer(match_numbers(number := read_prediction(text), expected), number, expected, text)
            for text, (_, expected) in zip(texts, questions, strict=True)
        ]
