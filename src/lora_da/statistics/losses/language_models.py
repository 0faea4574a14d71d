"""The losses of examples whose labels are tokens: what language models and token classifiers are trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.batches.inputs import find_labels
from lora_da.statistics.batches.segments import Segments, find_segments
from lora_da.statistics.losses.example_losses import find_logits
from lora_da.statistics.losses.targets import Alignment, Reduction, Targets, compute_token_losses, find_targets

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class TokenLoss:
    """The negative log-likelihood of an example's label tokens; -100 stands where there is none.

    Packed batches, several examples in a row, are told by their position ids or sequence lengths.

    Attributes:
        reduction: Whether it is the sum over the example's label tokens, as the theory has it, or their mean.
    """

    reduction: Reduction = "sum"
    alignment: ClassVar[Alignment]
    every_example: ClassVar[bool] = True
    rows_per_example: ClassVar[int] = 1

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss from (B, L, V) logits and (B, L) labels, in nats.

        Raises:
            ValueError: The shapes don't belong together, or an example has no label token (named by its index).
        """
        logits = find_logits(output)
        labels = self.place(find_labels(batch).to(logits.device), logits)
        targets = self.targets(labels, logits, find_segments(batch))
        return targets.by_example(compute_token_losses(logits[targets.positions], targets.labels), self.reduction)

    def mean(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute what a model of transformers returns as its loss: the mean over all label tokens of the batch."""
        logits = find_logits(output)
        targets = self.targets(self.place(find_labels(batch).to(logits.device), logits), logits)
        return compute_token_losses(logits[targets.positions], targets.labels).mean()

    def place(self, labels: Int[Tensor, "batch length"], logits: Float[Tensor, ...]) -> Int[Tensor, "batch positions"]:
        """Return the labels as long as the logits (or hidden states) are."""
        return labels

    def targets(
        self,
        labels: Int[Tensor, "batch positions"],
        logits: Float[Tensor, ...],
        segments: Segments | None = None,
    ) -> Targets:
        """Find the labels that the logits (or hidden states) predict.

        Raises:
            ValueError: The shapes don't belong together, or an example has no label token (named by its index).
        """
        if logits.ndim != 3 or labels.shape != logits.shape[:2]:
            raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
        return find_targets(labels, self.alignment, segments, every_example=self.every_example)


@dataclass(frozen=True)
class CausalLM(TokenLoss):
    """Causal language models: the logits at t predict the label at t + 1.

    Attributes:
        reduction: Whether it is the sum over the example's label tokens, as the theory has it, or their mean.
        text_last: Whether the logits begin with rows that have no label, such as an image's, so that the labels are
            those of the last positions. Nothing predicts the first of them then either.
    """

    text_last: bool = False
    alignment: ClassVar[Alignment] = "shifted"

    def place(self, labels: Int[Tensor, "batch length"], logits: Float[Tensor, ...]) -> Int[Tensor, "batch positions"]:
        """Return the labels as long as the logits (or hidden states) are."""
        if not self.text_last or logits.ndim != 3 or logits.shape[1] <= labels.shape[1]:
            return labels
        labels = F.pad(labels[:, 1:], (1, 0), value=-100)
        return F.pad(labels, (logits.shape[1] - labels.shape[1], 0), value=-100)


@dataclass(frozen=True)
class MaskedLM(TokenLoss):
    """Masked language models: each masked position predicts its own token.

    An example of which a random mask has hidden nothing has the loss 0 and counts all the same.
    """

    alignment: ClassVar[Alignment] = "aligned"
    every_example: ClassVar[bool] = False


@dataclass(frozen=True)
class SequenceToSequence(TokenLoss):
    """Decoders beside an encoder, whose inputs are the labels shifted: each position predicts its own label."""

    alignment: ClassVar[Alignment] = "aligned"


@dataclass(frozen=True)
class TokenClassification(TokenLoss):
    """Token classifiers: each position predicts its own class."""

    alignment: ClassVar[Alignment] = "aligned"
