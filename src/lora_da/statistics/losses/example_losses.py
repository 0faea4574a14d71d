"""The loss of each example by itself, computed from the model's logits.

The library never uses ``model(...).loss``: its mean runs over the batch, so that it depends on the batch size, and it
holds auxiliary losses such as router balancing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ExampleLoss = Callable[[Any, Mapping[str, Tensor]], Tensor]
"""A function of the model's output and the batch that returns the examples' losses, (B,), in nats. One whose examples
are coupled (in-batch negatives) says so by an attribute ``batch_dependent = True``."""

_ALIGNED = {"ForMaskedLM", "ForTokenClassification"}
_PER_EXAMPLE = {
    "ForSequenceClassification",
    "ForImageClassification",
    "ForVideoClassification",
    "ForAudioClassification",
}
_CAUSAL = {"ForCausalLM", "ForConditionalGeneration"}


def label_alignment(model: nn.Module) -> Literal["shifted", "aligned", "example"]:
    """How a transformers model's logits and labels belong together.

    Returns:
        "shifted": the logits at t predict the label at t + 1 (causal language models); "aligned": each position its
        own label (masked language models, token classification, decoders with an encoder); "example": one label an
        example (sequence and image classification, regression).

    Raises:
        ValueError: The model's task is unknown.
    """
    task = getattr(model, "loss_type", None)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and task in _CAUSAL:
        return "aligned"
    if task in _CAUSAL or (task is None and type(model).__name__.endswith("LMHeadModel")):
        return "shifted"
    if task in _ALIGNED:
        return "aligned"
    if task in _PER_EXAMPLE:
        return "example"
    raise ValueError(
        f"the loss of {type(model).__name__} is not known: it is no causal, masked or sequence-to-sequence language "
        "model and no classifier of transformers. Give example_loss, a function of (model output, batch) that returns "
        "each example's loss."
    )


def predicting_positions(labels: Tensor, alignment: Literal["shifted", "aligned", "example"]) -> Tensor:
    """The positions whose logits predict a label.

    Args:
        labels: (B, L), -100 where there is no label.
        alignment: From :func:`label_alignment`.

    Returns:
        (B, L), bool.

    Raises:
        ValueError: The labels belong to examples, not to tokens.
    """
    if alignment == "example" or labels.ndim != 2:
        raise ValueError('counted_tokens="labels" needs a label per token; this loss has one per example')
    predicting = labels != -100
    if alignment == "shifted":
        predicting = F.pad(predicting[:, 1:], (0, 1), value=False)
    return predicting


def example_losses(
    logits: Tensor,
    labels: Tensor,
    alignment: Literal["shifted", "aligned", "example"],
    reduction: Literal["sum", "mean"],
) -> Tensor:
    """The loss of each example, in nats.

    Args:
        logits: (B, L, V), or (B, C) for one label an example.
        labels: (B, L) with -100 for no label; (B,) class indices; (B,) or (B, C) numbers of a regression or of a
            multi-label classification.
        alignment: From :func:`label_alignment`.
        reduction: Whether an example's tokens' losses are summed or averaged.

    Returns:
        (B,), float32 (float64 if the logits are).

    Raises:
        ValueError: The shapes don't belong together, or an example has no label token (named by its index).
    """
    if alignment == "example":
        return _losses_per_example(logits, labels)
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    targets, rows = label_rows(labels.to(logits.device), alignment)
    return per_example(row_losses(logits[rows], targets), rows, reduction)


def label_rows(labels: Tensor, alignment: Literal["shifted", "aligned"]) -> tuple[Tensor, Tensor]:
    """The labels of a batch, and the positions whose logits predict them.

    Args:
        labels: (B, L), -100 where there is no label.
        alignment: From :func:`label_alignment`.

    Returns:
        The labels, (n,), and where the logits (or hidden states) of all examples that belong to them are, (B, L) bool
        with n entries that are true.

    Raises:
        ValueError: An example has no label; the message says which.
    """
    rows = predicting_positions(labels, alignment)
    if not bool(rows.any(1).all()):
        empty = (~rows.any(1)).nonzero().flatten().tolist()
        raise ValueError(
            f"no label token in example(s) {empty} of the batch: every label is -100"
            + (" or at the first position, which nothing predicts" if alignment == "shifted" else "")
            + ". Remove these examples, or see whether truncation cut their labels off."
        )
    if alignment == "shifted":
        labels = labels.roll(-1, dims=1)
    return labels[rows], rows


def row_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The losses of some positions, (n,), in nats, from their logits (n, V) and labels (n,).

    Only they are made float32: a copy of all logits would be the largest tensor of all.
    """
    return F.cross_entropy(_at_least_float32(logits), targets, reduction="none")


def per_example(losses: Tensor, rows: Tensor, reduction: Literal["sum", "mean"]) -> Tensor:
    """Positions' losses (n,), summed or averaged for each example, (B,); ``rows`` as from :func:`label_rows`."""
    summed = losses.new_zeros(len(rows)).index_add(0, rows.nonzero()[:, 0], losses)
    return summed / rows.sum(1) if reduction == "mean" else summed


def _losses_per_example(logits: Tensor, labels: Tensor) -> Tensor:
    logits, labels = _at_least_float32(logits), labels.to(logits.device)
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    if not labels.is_floating_point():
        labels = labels.reshape(len(labels))
        if bool((labels < 0).any()):
            raise ValueError(f"no label in example(s) {(labels < 0).nonzero().flatten().tolist()} of the batch")
        return F.cross_entropy(logits, labels, reduction="none")
    labels = labels.reshape(len(labels), -1).to(logits.dtype)
    if labels.shape != logits.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    if logits.shape[1] == 1:
        return 0.5 * (logits - labels).square().sum(1)  # negative log-likelihood of a unit Gaussian, less a constant
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
