"""The loss of an example that has one label, one number or one set of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


def compute_classification_losses(
    logits: Float[Tensor, ...], labels: Shaped[Tensor, ...]
) -> Float[Tensor, " examples"]:
    """Compute the loss of each example, in nats.

    Args:
        logits: (B, C).
        labels: Class indices, (B,) or (B, 1); numbers of a regression, (B,) or (B, 1) with C = 1; or for each of
            several labels whether it is given, (B, C) of floating point.

    Raises:
        ValueError: The shapes don't belong together, or an example has no label (named by its index).
    """
    logits, labels = at_least_float32(logits), labels.to(logits.device)
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
