"""The axes along which the examples of a batch are padded to one length: the input's, and the decoder's.

Each has a mask, and all tensors of the batch that run along it can be made longer or shorter together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.segments import BOUNDARIES

if TYPE_CHECKING:
    from jaxtyping import Bool, Shaped

Side = Literal["left", "right"]


@dataclass(frozen=True)
class PaddedAxis:
    """One axis of a batch along which examples are padded.

    Attributes:
        name: "input" or "decoder".
        mask: True where an example has a token, a frame or a sample, (B, L); several texts of one example, such as the
            choices of a question, are rows of their own.
        tensors: The names of the batch's tensors that run along the axis, and which dimension of each does.
        fill: What stands at padding where ids are padded.
        side: Where the padding stands, also in a part of the batch that has none.
    """

    name: str
    mask: Bool[Tensor, "rows length"]
    tensors: Mapping[str, int]
    fill: int = 0
    side: Side = "right"

    def lengthened(self, batch: Mapping[str, Any], count: int) -> dict[str, Any]:
        """Return a batch with ``count`` more positions of padding for every example."""
        longer = dict(batch)
        for name, dimension in self._tensors_in(batch):
            value: Tensor = batch[name]
            filler = value.narrow(dimension, 0, 1).expand(_with_size(value, dimension, count))
            filler = torch.full_like(filler, self._filler_of(name)) if "position" not in name else filler
            parts = [value, filler] if self.side == "right" else [filler, value]
            longer[name] = torch.cat(parts, dimension)
        return longer

    def shortened(self, batch: Mapping[str, Any], count: int) -> dict[str, Any]:
        """Return a batch without ``count`` positions, on the side of the padding."""
        shorter = dict(batch)
        start = count if self.side == "left" else 0
        for name, dimension in self._tensors_in(batch):
            shorter[name] = batch[name].narrow(dimension, start, batch[name].shape[dimension] - count)
        return shorter

    def cut(self, count: int) -> PaddedAxis:
        """Return the axis of a batch that was :meth:`shortened`."""
        start = count if self.side == "left" else 0
        return replace(self, mask=self.mask.narrow(1, start, self.mask.shape[1] - count))

    def single(self, batch: Mapping[str, Any], example: int) -> dict[str, Any]:
        """Return one example of a batch, without its padding along this axis."""
        length, rows = int(self.mask[example].sum()), len(self.mask)
        start = self.mask.shape[1] - length if self.side == "left" else 0
        alone = {}
        for name, value in batch.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == rows:
                value = value[example : example + 1]
            if name in self.tensors:
                value = value.narrow(self.tensors[name], start, length)
            alone[name] = value
        return alone

    def _tensors_in(self, batch: Mapping[str, Any]) -> list[tuple[str, int]]:
        return [(name, dimension) for name, dimension in self.tensors.items() if name in batch]

    def _filler_of(self, name: str) -> int:
        if "label" in name:
            return -100
        return self.fill if name.endswith("input_ids") else 0


def find_axes(model: nn.Module, batch: Mapping[str, Any], own: Bool[Tensor, "rows length"] | None) -> list[PaddedAxis]:
    """Find the axes along which a batch may be padded.

    Args:
        model: The model that reads it.
        batch: The batch, with its labels.
        own: True where a packed batch holds tokens rather than its collator's padding, (B, L).
    """
    return [*_input_axis(model, batch, own), *_decoder_axis(model, batch)]


def _input_axis(model: nn.Module, batch: Mapping[str, Any], own: Tensor | None) -> Iterator[PaddedAxis]:
    mask = batch.get("attention_mask")
    mask = own if not isinstance(mask, Tensor) else mask.bool() if own is None else mask.bool() & own.to(mask.device)
    if mask is None:
        return
    main = getattr(model, "main_input_name", "input_ids")
    main = next((key for key in (main, "input_ids", "inputs_embeds") if isinstance(batch.get(key), Tensor)), None)
    tensors = {}
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.ndim < 2 or name.startswith("decoder_") or "label" in name:
            continue
        if name != main and value.is_floating_point() and value.shape != mask.shape:
            continue  # what belongs to no token, such as an image, whatever its size
        dimension = _dimension_of(value, mask, is_main=name == main)
        if dimension is not None:
            tensors[name] = dimension
    flat = mask.flatten(0, -2)
    fill = _padding_id(model, batch.get("input_ids"), mask)
    yield PaddedAxis("input", flat, tensors, fill, _side_of(flat))


def _side_of(mask: Tensor) -> Side:
    """Where the padding stands; right where there is none."""
    return "right" if bool(mask[:, 0].all()) else "left"


def _dimension_of(value: Tensor, mask: Tensor, *, is_main: bool) -> int | None:
    """Which dimension of a tensor runs along a mask's."""
    if value.shape[: mask.ndim] == mask.shape:
        return mask.ndim - 1
    if value.ndim == 3 and value.shape[1:] == mask.shape and not value.is_floating_point():
        return 2  # positions on several axes, (axes, B, L)
    along_last = is_main and len(value) == len(mask) and value.shape[-1] == mask.shape[-1]
    return value.ndim - 1 if along_last else None  # a spectrogram, (B, bands, L)


def _padding_id(model: nn.Module, ids: Any, mask: Tensor) -> int:
    """What stands at padding: what the batch pads with, the model's padding id, or any id that is in use."""
    if not isinstance(ids, Tensor) or ids.shape != mask.shape:
        return 0
    if not bool(mask.all()):
        return int(ids[~mask.to(ids.device)][0])
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    return padding if isinstance(padding, int) and 0 <= padding <= int(ids.max()) else int(ids.flatten()[-1])


def _decoder_axis(model: nn.Module, batch: Mapping[str, Any]) -> Iterator[PaddedAxis]:
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return
    labels = batch.get("labels")
    mask = find_decoder_mask(batch, labels if isinstance(labels, Tensor) else None)
    if mask is None:
        return
    tensors = {
        name: 1
        for name, value in batch.items()
        if isinstance(value, Tensor)
        and value.shape[:2] == mask.shape
        and (name == "labels" or name.startswith("decoder_"))
    }
    fill = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    yield PaddedAxis("decoder", mask, tensors, fill, _side_of(mask))


def find_decoder_mask(
    batch: Mapping[str, Any], labels: Shaped[Tensor, ...] | None
) -> Bool[Tensor, "batch length"] | None:
    """Return where a decoder beside an encoder has tokens; without a mask of its own, labels tell its padding."""
    mask = batch.get("decoder_attention_mask")
    if mask is not None:
        found: Tensor = mask.bool()
        return found
    if labels is None or labels.ndim != 2 or labels.is_floating_point():
        return None
    # Padding of the labels is at the end, so that a position holds a token if a label stands at it or behind it.
    return (labels != -100).flip(1).cumsum(1).flip(1) > 0


def without_boundaries(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch that does not tell where packed examples begin, to be run for its layout alone."""
    return {name: value for name, value in batch.items() if name not in BOUNDARIES}


def with_other_content(model: nn.Module, batch: Mapping[str, Any], example: int) -> dict[str, Any]:
    """Return a batch of the same shapes, in which one example says something else.

    Its ids change places, but for special ones, which may have to stand where they do; without ids its numbers change
    their signs.
    """
    special = _special_ids(getattr(model, "config", None))
    changed = dict(batch)
    written = any(name.endswith("input_ids") for name in batch)
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.ndim < 2 or value.dtype == torch.bool:
            continue
        flat = value.clone().flatten(0, 1) if name == "input_ids" and value.ndim == 3 else value.clone()
        if example >= len(flat):
            continue
        if value.is_floating_point() and not written and not name.endswith("mask"):
            flat[example] *= -1
        elif name.endswith(("input_ids", "labels")) and not value.is_floating_point():
            flat[example] = _rotated(flat[example], special)
        changed[name] = flat.view_as(value)
    return changed


def _rotated(ids: Tensor, special: Tensor) -> Tensor:
    free = ~torch.isin(ids, special.to(ids.device)) & (ids >= 0)
    words = ids[free]
    if len(words) and bool((words == words[0]).all()):  # there is nothing to move
        other = next(one for one in range(len(special) + 2) if one != int(words[0]) and one not in special)
        return ids.masked_fill(free, other)
    return ids.masked_scatter(free, words.roll(1))


def _special_ids(config: Any) -> Tensor:
    found: set[int] = set()
    todo = [config.to_dict() if hasattr(config, "to_dict") else {}]
    while todo:
        for name, value in todo.pop().items():
            if isinstance(value, dict):
                todo.append(value)
            elif str(name).endswith(("_id", "_index", "_ids")):
                values = value if isinstance(value, list) else [value]
                found |= {one for one in values if isinstance(one, int)}
    return torch.tensor(sorted(found), dtype=torch.long)


def _with_size(value: Tensor, dimension: int, size: int) -> list[int]:
    shape = list(value.shape)
    shape[dimension] = size
    return shape
