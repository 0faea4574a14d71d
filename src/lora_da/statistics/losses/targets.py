"""The labels of a batch, the positions whose logits predict them, and the examples that they belong to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.batches.segments import Segments

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int

Alignment = Literal["shifted", "aligned"]
"""Whether the logits at t predict the label at t + 1 (causal language models) or that at t itself (masked language
models, token classification, decoders beside an encoder)."""

Reduction = Literal["sum", "mean"]
"""Whether the losses of an example's label tokens are summed or averaged."""


@dataclass(frozen=True)
class Targets:
    """The n labels of a batch that logits predict.

    Attributes:
        labels: The labels themselves.
        positions: Where the logits (or hidden states) that predict them are: n entries are true.
        examples: The example that each belongs to.
        counts: How many each example has.
    """

    labels: Int[Tensor, " targets"]
    positions: Bool[Tensor, "batch length"]
    examples: Int[Tensor, " targets"]
    counts: Int[Tensor, " examples"]

    def weights(self, reduction: Reduction) -> Float32[Tensor, " targets"]:
        """Return what each label's loss is multiplied with in its example's."""
        weights = torch.ones_like(self.counts, dtype=torch.float32)
        if reduction == "mean":
            weights = weights / self.counts
        return weights[self.examples]

    def by_example(self, losses: Float[Tensor, " targets"], reduction: Reduction) -> Float[Tensor, " examples"]:
        """Sum or average the labels' losses over each example."""
        summed = losses.new_zeros(len(self.counts)).index_add(0, self.examples, losses)
        return summed / self.counts.clamp(min=1) if reduction == "mean" else summed


def find_predicting_positions(
    labels: Int[Tensor, "batch length"], alignment: Alignment, segments: Segments | None = None
) -> Bool[Tensor, "batch length"]:
    """Find the positions whose logits predict a label; -100 stands where there is none.

    In a packed batch nothing predicts the label of a segment's first token.
    """
    predicted = labels != -100
    if segments is not None:
        predicted = predicted & (segments.numbers >= 0).to(labels.device)
    if alignment == "aligned":
        return predicted
    if segments is not None:
        predicted = predicted & ~segments.starts.to(labels.device)
    return F.pad(predicted[:, 1:], (0, 1), value=False)


def find_targets(
    labels: Int[Tensor, "batch length"],
    alignment: Alignment,
    segments: Segments | None = None,
    *,
    every_example: bool = True,
) -> Targets:
    """Find the labels of a batch, perhaps a packed one, that logits predict; -100 stands where there is none.

    Args:
        labels: The labels.
        alignment: Which position predicts which label.
        segments: Those of a packed batch, each of which is one example.
        every_example: Whether every example needs a label, and not just one of the batch.

    Raises:
        ValueError: An example has no label that is predicted, or the batch is packed otherwise than its labels; the
            message says which.
    """
    if segments is not None and segments.numbers.shape != labels.shape:
        raise ValueError(
            f"labels {tuple(labels.shape)} don't fit packed rows of {tuple(segments.numbers.shape)} tokens: unpack the "
            "examples"
        )
    positions = find_predicting_positions(labels, alignment, segments)
    if segments is None:
        examples, count = positions.nonzero()[:, 0], len(labels)
    else:
        examples, count = segments.numbers.to(labels.device)[positions], segments.count
    counts = examples.bincount(minlength=count)
    if segments is not None and every_example and not bool(counts.all()):
        warnings.warn(
            "packed examples without any label token, such as prompts that fill the whole length, are counted with the "
            "loss 0, as training does",
            stacklevel=2,
        )
    elif not bool(counts.all() if every_example else counts.any()):
        empty = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"no label token in example(s) {empty} of the batch: every label is -100"
            + (" or at the first position, which nothing predicts" if alignment == "shifted" else "")
            + ". Remove these examples, or see whether truncation cut their labels off."
        )
    if alignment == "shifted":
        labels = labels.roll(-1, dims=1)
    return Targets(labels[positions], positions, examples, counts)


def compute_token_losses(
    logits: Float[Tensor, "targets vocabulary"], labels: Int[Tensor, " targets"]
) -> Float[Tensor, " targets"]:
    """Compute the losses of some positions, in nats, from their logits and labels.

    Only they are made float32: a copy of all logits would be the largest tensor of all.
    """
    return F.cross_entropy(at_least_float32(logits), labels, reduction="none")


def at_least_float32(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return logits in a precision in which losses can be computed."""
    return logits if logits.dtype == torch.float64 else logits.float()
