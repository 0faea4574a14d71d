"""What a kind of task is: how rows become examples to train on, and how a model's answers are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import datasets
from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """A model's answer to one item.

    Attributes:
        correct: Whether it is right.
        predicted: The answer as the grader read it; None if it found none.
        expected: The right answer.
        output: What the model gave, raw: its text, or the scores of the candidates.
    """

    correct: bool
    predicted: str | None
    expected: str
    output: Any


class Task(ABC):
    """A kind of task over rows of a data set. Instances hold the names of columns and lengths, nothing else.

    Attributes:
        head: Which kind of model it needs: a causal language model, or a classifier of sequences.
        max_length: Longer examples lose their end.
    """

    head: ClassVar[Literal["language model", "classifier"]] = "language model"
    max_length: int

    @property
    def task_type(self) -> str:
        """PEFT's name of the model's kind."""
        return "SEQ_CLS" if self.head == "classifier" else "CAUSAL_LM"

    @property
    def class_count(self) -> int | None:
        """How many classes a classifier needs; None for language models."""
        return None

    @abstractmethod
    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """Tokenised examples, with ``labels``, one for each row or fewer.

        Raises:
            ValueError: A row is malformed; the message names it and says what to do.
        """

    @abstractmethod
    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        """A function that pads examples of :meth:`encode` into a batch."""

    def check(self, rows: datasets.Dataset) -> None:  # noqa: B027 (nothing to check is a good default)
        """Check that answers to the rows can be graded, before any long work.

        Raises:
            ValueError: They can't; the message names the row and says what to do.
        """

    @abstractmethod
    def answer(self, model: Any, tokenizer: Any, rows: datasets.Dataset, batch_size: int) -> list[Answer]:
        """A model's answers to the rows, in their order. The model's modes are as before afterwards."""

    def scores(self, answers: Sequence[Answer]) -> Mapping[str, float]:
        """Figures over all answers, ``accuracy`` among them, each from 0 to 1 (Matthews: −1 to 1)."""
        return {"accuracy": sum(answer.correct for answer in answers) / len(answers)}
