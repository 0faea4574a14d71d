"""The loss of each example by itself, computed from the model's logits.

The library never uses ``model(...).loss``: its mean runs over the batch, so that it depends on the batch size, and it
holds auxiliary losses such as router balancing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lora_da.statistics.batches.segments import Segments
from lora_da.statistics.losses.alignment import Alignment
from lora_da.statistics.losses.classification import compute_classification_losses
from lora_da.statistics.losses.targets import Reduction, compute_token_losses, find_targets

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

ExampleLoss = Callable[[Any, Mapping[str, Tensor]], Tensor]
"""A function of the model's output and the batch that returns the examples' losses, (B,), in nats. One whose examples
are coupled (in-batch negatives) says so by an attribute ``batch_dependent = True``."""


def compute_example_losses(
    logits: Float[Tensor, ...],
    labels: Shaped[Tensor, ...],
    alignment: Alignment,
    reduction: Reduction,
    segments: Segments | None = None,
) -> Float[Tensor, " examples"]:
    """Compute the loss of each example, in nats.

    Args:
        logits: (B, L, V), or (B, C) for one label an example.
        labels: (B, L) with -100 for no label; or as :func:`compute_classification_losses` takes them.
        alignment: From :func:`lora_da.statistics.losses.alignment.find_alignment`.
        reduction: Whether an example's tokens' losses are summed or averaged.
        segments: Those of a packed batch, each of which is one example.

    Returns:
        The losses in float32 (float64 if the logits are).

    Raises:
        ValueError: The shapes don't belong together, or an example has no label token (named by its index).
    """
    if alignment == "example":
        if segments is not None:
            raise ValueError("the batch is packed, but this model has one label a row, not one a token: unpack it")
        return compute_classification_losses(logits, labels)
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} don't belong together")
    targets = find_targets(labels.to(logits.device), alignment, segments)
    return targets.by_example(compute_token_losses(logits[targets.positions], targets.labels), reduction)
