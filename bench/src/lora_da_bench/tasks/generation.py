"""Answers that a model writes out, such as GSM8K's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
from pydantic import Field, PositiveInt

from lora_da.loading import PreparedExamples
from lora_da_bench.tasks.columns import read_texts
from lora_da_bench.tasks.greedy_decoding import continue_prompts
from lora_da_bench.tasks.number_grading import match_numbers, read_prediction, read_reference
from lora_da_bench.tasks.task import Answer, Task, pair_texts, prepare_pairs


@dataclass(frozen=True)
class Question:
    """A prompt and the solution whose number is right."""

    prompt: str
    reference: str


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

    @property
    def columns(self) -> dict[str, str]:
        """See :meth:`Task.columns`."""
        return {"prompt": self.prompt, "completion": self.completion}

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """See :meth:`Task.encode`."""
        return prepare_pairs(self._pairs(rows), tokenizer, self.max_length)

    def _pairs(self, rows: datasets.Dataset) -> datasets.Dataset:
        return pair_texts(read_texts(rows, self.prompt), read_texts(rows, self.completion))

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        for index, reference in enumerate(read_texts(rows, self.completion)):
            try:
                read_reference(reference)
            except ValueError as error:
                raise ValueError(f"Row {index}: {error}") from error

    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> list[Question]:
        """See :meth:`Task.pose`; the prompts are those of training."""
        self.check(rows)
        return [Question(pair["prompt"], pair["completion"]) for pair in self._pairs(rows)]

    def answer(self, model: Any, tokenizer: Any, questions: list[Question], batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; the outputs are texts."""
        prompts = [question.prompt for question in questions]
        texts = continue_prompts(model, tokenizer, prompts, max_new_tokens=self.max_new_tokens, batch_size=batch_size)
        return [
            Answer(match_numbers(text, q.reference), read_prediction(text), read_reference(q.reference), text)
            for text, q in zip(texts, questions, strict=True)
        ]
