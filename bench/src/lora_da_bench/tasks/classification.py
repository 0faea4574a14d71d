"""Classification of texts, or of pairs of them, by a model with a classifier's head."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
import torch
from lora_da.loading.data import pad_right, padding_token
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor

from lora_da.adapter.wrapping import find_base_model
from lora_da.statistics.batches.inputs import prepare_inputs
from lora_da_bench.running.evaluation import evaluation_mode
from lora_da_bench.running.quiet import bar
from lora_da_bench.tasks.columns import cells, texts
from lora_da_bench.tasks.task import Answer, Task


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """One class for each text or pair of texts, as in GLUE.

    Attributes:
        text: The column with the text.
        pair: The column with the text's partner, if there is one.
        label: The column with the class, as a string or an integer.
        classes: The classes, in the order of the model's outputs; of two, the last is the positive one.
        max_length: Longer texts lose their end.
    """

    head: ClassVar = "classifier"

    text: str = "sentence"
    pair: str | None = None
    label: str = "label"
    classes: tuple[str, ...] = ("0", "1")
    max_length: int = 256

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be two or more, and each once, not {', '.join(self.classes)}")

    @property
    def class_count(self) -> int:
        """See :meth:`Task.class_count`."""
        return len(self.classes)

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """See :meth:`Task.encode`; every row becomes an example."""
        labels = self._labels(rows)
        pairs = None if self.pair is None else texts(rows, self.pair)
        encoded = tokenizer(texts(rows, self.text), pairs, truncation=True, max_length=self.max_length)
        return datasets.Dataset.from_dict({**encoded, "labels": labels})

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._labels(rows)

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        """See :meth:`Task.collator`."""
        fillers = {"input_ids": padding_token(tokenizer), "attention_mask": 0, "token_type_ids": 0}
        return functools.partial(_collate, fillers)

    def answer(self, model: Any, tokenizer: Any, rows: datasets.Dataset, batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; the outputs are logits. Logits that are no numbers predict nothing.

        Raises:
            ValueError: A row has no text or no known class (the message names it), or the model has other classes.
        """
        examples = self.encode(rows, tokenizer).to_list()
        collate = self.collator(tokenizer)
        base, device = find_base_model(model), next(model.parameters()).device
        # Longest first: batches need little padding, and memory runs out in the first one if at all.
        order = sorted(range(len(examples)), key=lambda index: -len(examples[index]["input_ids"]))
        outputs: dict[int, list[float]] = {}
        with evaluation_mode(model), torch.no_grad():
            for start in bar(range(0, len(order), batch_size), desc="Classifying"):
                chosen = order[start : start + batch_size]
                batch = prepare_inputs(base, collate([examples[index] for index in chosen]), device)
                logits = model(**batch).logits.float()
                if logits.shape != (len(chosen), len(self.classes)):
                    raise ValueError(
                        f"the task has {len(self.classes)} classes, and the model gives {logits.shape[-1]} numbers"
                    )
                outputs |= dict(zip(chosen, logits.tolist(), strict=True))
        return [self._answer(outputs[index], example["labels"]) for index, example in enumerate(examples)]

    def scores(self, answers: Sequence[Answer]) -> Mapping[str, float]:
        """Accuracy, F1 (of the positive class; of more than two classes the mean) and Matthews' coefficient."""
        places = {name: place for place, name in enumerate(self.classes)}
        expected = [places[answer.expected] for answer in answers]
        predicted = [-1 if answer.predicted is None else places[answer.predicted] for answer in answers]
        counted = [1] if len(self.classes) == 2 else list(range(len(self.classes)))
        return {
            **super().scores(answers),
            "f1": float(f1_score(expected, predicted, labels=counted, average="macro", zero_division=0)),
            "matthews": float(matthews_corrcoef(expected, predicted)),
        }

    def _labels(self, rows: datasets.Dataset) -> list[int]:
        places = {name: place for place, name in enumerate(self.classes)}
        labels = [str(cell) for cell in cells(rows, self.label)]
        for index, label in enumerate(labels):
            if label not in places:
                raise ValueError(f"Row {index} has the class {label!r}; the classes are {', '.join(self.classes)}.")
        return [places[label] for label in labels]

    def _answer(self, logits: list[float], label: int) -> Answer:
        defined = all(value == value for value in logits)
        predicted = self.classes[logits.index(max(logits))] if defined else None
        return Answer(predicted == self.classes[label], predicted, self.classes[label], logits)


def _collate(fillers: Mapping[str, int], examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    given = {name: filler for name, filler in fillers.items() if name in examples[0]}
    return {**pad_right(given, examples), "labels": torch.tensor([example["labels"] for example in examples])}
