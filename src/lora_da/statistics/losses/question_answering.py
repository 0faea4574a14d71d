"""The loss of extractive question answering: where in the text the answer starts, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float, Int

ENDS = ("start", "end")


@dataclass(frozen=True)
class QuestionAnswering:
    """-log p(start) - log p(end); the batch has ``start_positions`` and ``end_positions``, (B,).

    The softmax runs over all positions, padding included, and a position behind the last one counts for nothing: both
    as in transformers, whose own loss is half of it.
    """

    rows_per_example: ClassVar[int] = 1
    own_entries: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss from the (B, L) ``start_logits`` and ``end_logits``, in nats.

        Raises:
            ValueError: The output has no such logits, or the batch no such positions.
        """
        start, end = (_losses(output, batch, which) for which in ENDS)
        return start + end

    def mean(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute what a model of transformers returns as its loss: the mean of both means."""
        counted = [_positions(output, batch, which) < _logits(output, which).shape[1] for which in ENDS]
        start, end = (
            _losses(output, batch, which).sum() / inside.sum() for which, inside in zip(ENDS, counted, strict=True)
        )
        return (start + end) / 2


def _logits(output: Any, which: str) -> Float[Tensor, "B L"]:
    logits = getattr(output, f"{which}_logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model's output has no {which}_logits: where it chooses answers in another way, give example_loss, a "
            "function of (model output, batch) that returns each example's loss"
        )
    return at_least_float32(logits)


def _positions(output: Any, batch: Mapping[str, Any], which: str) -> Int[Tensor, " B"]:
    positions = batch.get(f"{which}_positions")
    if not isinstance(positions, Tensor):
        raise ValueError(f"the batch has no {which}_positions; its keys are {list(batch)}")
    logits = _logits(output, which)
    return positions.to(logits.device).reshape(len(positions)).clamp(0, logits.shape[1])


def _losses(output: Any, batch: Mapping[str, Any], which: str) -> Float[Tensor, " B"]:
    logits = _logits(output, which)
    positions = _positions(output, batch, which)
    return F.cross_entropy(logits, positions, ignore_index=logits.shape[1], reduction="none")
