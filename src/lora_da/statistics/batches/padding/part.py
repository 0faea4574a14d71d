"""A small part of a batch of text, on which a model shows as well as on the whole how positions lie in its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lora_da.statistics.batches.padding.axis import PaddedAxis

EXAMPLES = 2
POSITIONS = 6


def take_part(batch: Mapping[str, Any], axes: Sequence[PaddedAxis]) -> tuple[dict[str, Any], list[PaddedAxis]] | None:
    """Take a few positions of a batch's longest examples, at the end that has no padding.

    Labels that run along no axis are left out.

    Returns:
        The part and its axes; None if it would be the batch, or if that holds more than token ids, such as images,
        which belong to certain positions.
    """
    if not axes:
        return None
    rows = len(axes[0].mask)
    spare = [max(axis.mask.shape[1] - POSITIONS, 0) for axis in axes]
    if rows <= EXAMPLES and not any(spare):
        return None
    longest = axes[0].mask.sum(1).argsort(descending=True, stable=True)[:EXAMPLES]
    shorter = {name: value for name, value in batch.items() if not _is_beside(name, axes)}
    if any(not _is_text(name, value, rows, axes) for name, value in shorter.items()):
        return None
    for axis, count in zip(axes, spare, strict=True):
        shorter = axis.shortened(shorter, count)
    part = {name: value[longest.to(value.device)] for name, value in shorter.items()}
    cut = [axis.cut(count) for axis, count in zip(axes, spare, strict=True)]
    return part, [replace(axis, mask=axis.mask[longest]) for axis in cut]


def _is_beside(name: str, axes: Sequence[PaddedAxis]) -> bool:
    """Whether an entry holds labels of each position that the model does not read."""
    return "label" in name and not any(name in axis.tensors for axis in axes)


def _is_text(name: str, value: Any, rows: int, axes: Sequence[PaddedAxis]) -> bool:
    if not isinstance(value, Tensor) or value.is_floating_point() or value.shape[:1] != (rows,):
        return False
    return value.ndim == 1 or any(axis.tensors.get(name) == 1 for axis in axes)
