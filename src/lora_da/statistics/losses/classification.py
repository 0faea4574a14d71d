"""The losses of examples that have one class, one set of classes or some numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.batches.inputs import find_labels
from lora_da.statistics.losses.example_losses import find_logits
from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


@dataclass(frozen=True)
class Classification:
    """-log p of the right one of C classes; ``labels`` are their indices, (B,) or (B, 1)."""

    rows_per_example: ClassVar[int] = 1

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss from (B, C) logits, in nats.

        Raises:
            ValueError: The shapes don't belong together, or an example has no label (named by its index).
        """
        logits, labels = _logits_and_labels(output, batch)
        if labels.is_floating_point() or labels.numel() != len(logits):
            raise ValueError(
                f"labels {tuple(labels.shape)} of {labels.dtype} are no index of one class an example: where an "
                "example has several, or numbers, say so by the configuration's problem_type, \"multi_label_"
                'classification" or "regression"'
            )
        labels = labels.reshape(len(labels)).long()
        if bool((labels < 0).any()):
            raise ValueError(f"no label in example(s) {(labels < 0).nonzero().flatten().tolist()} of the batch")
        return F.cross_entropy(logits, labels, reduction="none")

    def mean(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute what a model of transformers returns as its loss: the mean."""
        return self(output, batch).mean()


@dataclass(frozen=True)
class MultipleChoice(Classification):
    """-log p of the right one of C choices, each a row of an example's own (B, C, L) inputs; ``labels`` are (B,)."""


@dataclass(frozen=True)
class MultiLabel:
    """The negative log-likelihood of C answers, yes or no; ``labels`` say which, (B, C) of zeros and ones.

    transformers' own loss is the mean over the C answers, of which this is the sum.
    """

    rows_per_example: ClassVar[int] = 1

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss from (B, C) logits, in nats.

        Raises:
            ValueError: The shapes don't belong together, or a label is no probability.
        """
        logits, labels = _logits_and_numbers(output, batch)
        if bool(((labels < 0) | (labels > 1)).any()):
            raise ValueError(
                "labels of several classes an example must be zeros and ones: where they are numbers, set the "
                'configuration\'s problem_type to "regression"'
            )
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)

    def mean(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute what a model of transformers returns as its loss: the mean over examples and answers."""
        return self(output, batch).mean() / find_logits(output).shape[1]


@dataclass(frozen=True)
class Regression:
    """Half the squared error of C numbers; ``labels`` are (B, C), or (B,) where C is 1.

    That is the negative log-likelihood of a unit Gaussian, less a constant; C/2 times transformers' own loss, the mean
    square.
    """

    rows_per_example: ClassVar[int] = 1

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss from (B, C) logits, in nats.

        Raises:
            ValueError: The shapes don't belong together.
        """
        logits, labels = _logits_and_numbers(output, batch)
        return 0.5 * (logits - labels).square().sum(1)

    def mean(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute what a model of transformers returns as its loss: the mean square."""
        return 2 * self(output, batch).mean() / find_logits(output).shape[1]


def _logits_and_labels(output: Any, batch: Mapping[str, Any]) -> tuple[Float[Tensor, "B C"], Shaped[Tensor, ...]]:
    logits = at_least_float32(find_logits(output))
    labels = find_labels(batch).to(logits.device)
    if logits.ndim != 2 or labels.ndim == 0 or len(logits) != len(labels):
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    return logits, labels


def _logits_and_numbers(output: Any, batch: Mapping[str, Any]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    logits, labels = _logits_and_labels(output, batch)
    labels = labels.reshape(len(labels), -1).to(logits.dtype)
    if labels.shape != logits.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    return logits, labels
