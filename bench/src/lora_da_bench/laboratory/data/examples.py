"""Examples: rows of tokens, and what is to be learned of them: the next token, or a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Examples:
    """Blocks of text, or padded texts that have a class each.

    Attributes:
        input_ids: (n, length).
        attention_mask: (n, length), 1 at the tokens of a row, which come first, and 0 at padding.
        classes: (n,); None where each next token is to be predicted, of blocks without padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
    classes: Tensor | None = None

    def __len__(self) -> int:
        """How many."""
        return len(self.input_ids)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        """Some of them."""
        classes = None if self.classes is None else self.classes[index]
        return Examples(self.input_ids[index], self.attention_mask[index], classes)

    def split(self, size: int) -> Iterator[Examples]:
        """Part them into batches, in order."""
        return (self[start : start + size] for start in range(0, len(self), size))

    @property
    def labels_each(self) -> int:
        """How many labels an example has."""
        return self.input_ids.shape[1] - 1 if self.classes is None else 1

    def batch(self) -> dict[str, Tensor]:
        """What the model is called with, and the labels; no longer than the longest row."""
        if self.classes is None:
            return {"input_ids": self.input_ids, "labels": self.input_ids}
        mask = self.attention_mask[:, : int(self.attention_mask.sum(1).max())]
        return {"input_ids": self.input_ids[:, : mask.shape[1]], "attention_mask": mask, "labels": self.classes}

    def losses(self, model: Any) -> Tensor:
        """Compute each example's mean loss over its labels, (n,), in nats."""
        inputs = self.batch()
        labels = inputs.pop("labels")
        logits = model(**inputs).logits.float()
        if self.classes is not None:
            return nn.functional.cross_entropy(logits, labels, reduction="none")
        return nn.functional.cross_entropy(logits[:, :-1].mT, labels[:, 1:], reduction="none").mean(1)
