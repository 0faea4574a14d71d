"""Classification of texts, or of pairs of them, by a model with a classifier's head."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import datasets
import torch
from pydantic import Field, PositiveInt, field_validator
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import DataCollatorWithPadding

from lora_da.loading import PreparedExamples
from lora_da_bench.tasks.item_losses import evaluation_mode, restore_order
from lora_da_bench.tasks.task import Answer, Task, read_cells, read_texts


class Classification(Task):
    """One class for each text or pair of texts, as in GLUE."""

    head: ClassVar[Literal["language model", "classifier"]] = "classifier"

    text: str = Field(default="sentence", description="the column with the text")
    pair: str | None = Field(default=None, description="the column with its partner")
    label: str = Field(default="label", description="the column with the class")
    classes: tuple[str, ...] = Field(
        default=("0", "1"),
        min_length=2,
        description="in the order of the model's outputs; of two, the last is the positive one",
    )
    max_length: PositiveInt = Field(default=256, description="longer texts lose their end")

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError(f"must be each once, not {', '.join(classes)}")
        return classes

    @property
    def class_count(self) -> int:
        """See :meth:`Task.class_count`."""
        return len(self.classes)

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """See :meth:`Task.encode`; every row becomes an example."""
        labels = self._labels(rows)
        pairs = None if self.pair is None else read_texts(rows, self.pair)
        encoded = tokenizer(read_texts(rows, self.text), pairs, truncation=True, max_length=self.max_length)
        if tokenizer.pad_token_id is None:
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.pad_token = tokenizer.eos_token
        return PreparedExamples(
            datasets.Dataset.from_dict({**encoded, "labels": labels}), DataCollatorWithPadding(tokenizer)
        )

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._labels(rows)

    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """See :meth:`Task.pose`; the questions are the examples of :meth:`encode`."""
        return self.encode(rows, tokenizer)

    def answer(self, model: Any, tokenizer: Any, questions: PreparedExamples, batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; the outputs are logits. Logits that are no numbers predict nothing.

        Raises:
            ValueError: The model has another number of classes.
        """
        device = next(model.parameters()).device
        outputs: list[list[float]] = []
        with evaluation_mode(model), torch.no_grad():
            for batch in questions.batches(batch_size):
                logits = model(**{name: value.to(device) for name, value in batch.items() if name != "labels"}).logits
                if logits.shape[-1] != len(self.classes):
                    raise ValueError(
                        f"the task has {len(self.classes)} classes, and the model gives {logits.shape[-1]} numbers"
                    )
                outputs += logits.float().tolist()
        labels = questions.rows["labels"]
        return [self._answer(*pair) for pair in zip(restore_order(outputs, questions), labels, strict=True)]

    def score(self, answers: Sequence[Answer]) -> Mapping[str, float]:
        """Score accuracy, F1 (of the positive class; of more than two classes the mean) and Matthews' coefficient."""
        places = {name: place for place, name in enumerate(self.classes)}
        expected = [places[answer.expected] for answer in answers]
        predicted = [-1 if answer.predicted is None else places[answer.predicted] for answer in answers]
        counted = [1] if len(self.classes) == 2 else list(range(len(self.classes)))
        return {
            **super().score(answers),
            "f1": float(f1_score(expected, predicted, labels=counted, average="macro", zero_division=0)),
            "matthews": float(matthews_corrcoef(expected, predicted)),
        }

    def _labels(self, rows: datasets.Dataset) -> list[int]:
        places = {name: place for place, name in enumerate(self.classes)}
        labels = [str(cell) for cell in read_cells(rows, self.label)]
        for index, label in enumerate(labels):
            if label not in places:
                raise ValueError(f"Row {index} has the class {label!r}; the classes are {', '.join(self.classes)}.")
        return [places[label] for label in labels]

    def _answer(self, logits: list[float], label: int) -> Answer:
        defined = all(value == value for value in logits)
        predicted = self.classes[logits.index(max(logits))] if defined else None
        return Answer(predicted == self.classes[label], predicted, self.classes[label], logits)
