"""What a kind of task is: how rows become examples to train on, and how a model's answers are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import datasets

from lora_da.loading import PreparedExamples, RowFormat, prepare_examples
from lora_da_bench.experiment.validation import Section


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


class Task(Section, ABC):
    """A kind of task over rows of a data set. Its fields are the ``task.options`` of a description.

    Attributes:
        head: Which kind of model it needs: a causal language model, or a classifier of sequences.
        max_length: Longer examples lose their end.
    """

    head: ClassVar[Literal["language model", "classifier"]] = "language model"
    if TYPE_CHECKING:  # declared where its default is
        max_length: int

    @property
    def class_count(self) -> int | None:
        """How many classes a classifier needs; None for language models."""
        return None

    @abstractmethod
    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """Tokenise rows into examples with ``labels``, one for each row or fewer.

        Raises:
            ValueError: A row is malformed; the message names it and says what to do.
        """

    @abstractmethod
    def check(self, rows: datasets.Dataset) -> None:
        """Check that answers to the rows can be graded, before any long work.

        Raises:
            ValueError: They can't; the message names the row and says what to do.
        """

    @abstractmethod
    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> Any:
        """Make the questions that :meth:`answer` puts to a model.

        It is done before a training, as TRL's tokenisation sets states that a training under way relies on.

        Raises:
            ValueError: A row is malformed, or its answer can't be graded; the message names it.
        """

    @abstractmethod
    def answer(self, model: Any, tokenizer: Any, questions: Any, batch_size: int) -> list[Answer]:
        """Take a model's answers to questions of :meth:`pose`, in the rows' order; its modes are as before."""

    def score(self, answers: Sequence[Answer]) -> Mapping[str, float]:
        """Score all answers: ``accuracy`` and others, each from 0 to 1 (Matthews: −1 to 1)."""
        return {"accuracy": sum(answer.correct for answer in answers) / len(answers)}


def pair_texts(prompts: Sequence[str], completions: Sequence[str]) -> datasets.Dataset:
    """Pair prompts and completions as TRL takes them; a line break parts them where no whitespace would."""
    joined = [
        f"{prompt}\n" if prompt and not prompt[-1].isspace() and not completion[:1].isspace() else prompt
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return datasets.Dataset.from_dict({"prompt": joined, "completion": list(completions)})


def prepare_pairs(pairs: datasets.Dataset, tokenizer: Any, max_length: int) -> PreparedExamples:
    """Tokenise pairs by TRL, so that completions alone are learnt."""
    return prepare_examples(pairs, tokenizer, RowFormat("prompt", "completion", max_length=max_length))


def read_cells(rows: datasets.Dataset, column: str) -> list[Any]:
    """Read all cells of a column.

    Raises:
        ValueError: There is no such column.
    """
    if column not in rows.column_names:
        raise ValueError(f"There is no column {column!r}; the columns are: {', '.join(rows.column_names)}.")
    return list(rows[column])


def read_texts(rows: datasets.Dataset, column: str) -> list[str]:
    """Read all cells of a column of text.

    Raises:
        ValueError: There is no such column, or a cell holds no text; the message names the row.
    """
    found = read_cells(rows, column)
    for index, cell in enumerate(found):
        if not isinstance(cell, str) or not cell.strip():
            raise ValueError(f"Row {index} has no text in the column {column!r}; complete it or leave the row out.")
    return found
