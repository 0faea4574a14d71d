"""Packed batches: several examples in one row, one segment each, and where every one of them lies.

TRL's packing and padding-free collators make such batches, and transformers' ``DataCollatorWithFlattening``. Position
ids that start again tell where a segment begins, and so do the lengths that flash attention is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

_CUMULATIVE = ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens", "cu_seqlens_q", "cu_seqlens_k")
_LONGEST = ("max_length_q", "max_length_k", "max_seqlen", "max_seqlen_q", "max_seqlen_k")
BOUNDARIES = ("position_ids", "seq_idx", "seq_lengths", *_CUMULATIVE, *_LONGEST)
"""The names under which a batch tells where its segments lie."""


@dataclass(frozen=True)
class Segments:
    """The segments of a packed batch, numbered row by row.

    Attributes:
        numbers: The example that each position belongs to, (B, L); -1 where it belongs to none.
        starts: True where a segment begins, (B, L), those of padding included.
    """

    numbers: Int[Tensor, "rows length"]
    starts: Bool[Tensor, "rows length"]

    @property
    def count(self) -> int:
        """The number of examples."""
        return int(self.numbers.max()) + 1

    @property
    def bounds(self) -> list[tuple[int, int, int]]:
        """The row of each example, its first column, and the one behind its last."""
        found = []
        for number in range(self.count):
            places = (self.numbers == number).nonzero()
            found.append((int(places[0, 0]), int(places[0, 1]), int(places[-1, 1]) + 1))
        return found


def find_segments(batch: Mapping[str, Any]) -> Segments | None:
    """Find the segments of a batch of ``input_ids`` or ``inputs_embeds`` with any of the :data:`BOUNDARIES`.

    Returns:
        None if every row is one example.

    Raises:
        ValueError: What the batch tells of its segments does not fit together, or it also holds tensors that belong to
            no token.
    """
    main = batch.get("input_ids", batch.get("inputs_embeds"))
    if not isinstance(main, Tensor) or main.ndim < 2 or main.numel() == 0:
        return None
    rows, length = main.shape[:2]
    told = _starts_told(batch, rows, length)
    if not told:
        return None
    (first, starts), *others = told.items()
    for name, other in others:
        if not torch.equal(starts, other):
            raise ValueError(
                f"{first!r} and {name!r} of the batch disagree on where its packed examples begin: give the batch as "
                "the collator made it, or unpack the examples"
            )
    numbers = _numbers(batch, starts)
    if int(numbers.max()) + 1 == rows and bool((numbers >= 0).all()):
        return None
    for name, value in batch.items():
        of_data = isinstance(value, Tensor) and value.ndim > 1 and name not in BOUNDARIES
        if of_data and not _is_per_token(value, rows, length):
            raise ValueError(
                f"{name!r} of shape {tuple(value.shape)} can't be divided among the examples that are packed into "
                f"{rows} row(s) of {length} tokens: unpack the examples"
            )
    return Segments(numbers, starts)


def cut_segments(batch: Mapping[str, Any], segments: Segments, count: int) -> list[dict[str, Any]]:
    """Cut a packed batch behind the example that is its ``count``-th.

    Returns:
        The whole rows before the cut and the beginning of the row that is cut, as up to two batches.
    """
    row, _, end = segments.bounds[count - 1]
    if bool((segments.numbers[row, end:] >= 0).any()):
        parts = [(slice(0, row), slice(None)), (slice(row, row + 1), slice(0, end))]
    else:
        parts = [(slice(0, row + 1), slice(None))]
    return [_part(batch, segments, rows, columns) for rows, columns in parts if rows.stop]


def pick_segments(batch: Mapping[str, Any], segments: Segments, numbers: Sequence[int], most: int) -> dict[str, Any]:
    """Pack the beginnings of some examples of a packed batch, ``most`` tokens of each, into one row.

    Returns:
        A batch of one row.
    """
    rows, length = segments.numbers.shape
    bounds = [segments.bounds[number] for number in numbers]
    places = [(row, start, min(end, start + most)) for row, start, end in bounds]
    picked: dict[str, Any] = {}
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.ndim == 0:
            picked[name] = value
        elif _is_per_token(value, rows, length):
            every = value.expand(rows, *value.shape[1:])
            picked[name] = torch.cat([every[row, start:end] for row, start, end in places])[None]
    starts = torch.zeros(1, sum(end - start for _, start, end in places), dtype=torch.bool)
    starts[0, torch.tensor([0] + [end - start for _, start, end in places]).cumsum(0)[:-1]] = True
    return picked | _boundaries(batch, starts)


def _starts_told(batch: Mapping[str, Any], rows: int, length: int) -> dict[str, Tensor]:
    """Where segments begin, (B, L), according to each of the batch's entries that tells it."""
    told = {}
    positions = batch.get("position_ids")
    if isinstance(positions, Tensor) and positions.ndim == 2 and positions.shape[1] == length > 1:
        told["position_ids"] = _restarts(positions.expand(rows, length), batch.get("attention_mask"))
    indices = batch.get("seq_idx")
    if isinstance(indices, Tensor) and indices.shape == (rows, length):
        told["seq_idx"] = _with_row_starts(indices.diff(dim=1) != 0)
    for name in _CUMULATIVE:
        if batch.get(name) is not None:
            told[name] = _from_cumulative(name, torch.as_tensor(batch[name]), rows, length)
    if batch.get("seq_lengths") is not None:
        told["seq_lengths"] = _from_lengths(batch["seq_lengths"], rows, length)
    return {name: starts.cpu() for name, starts in told.items()}


def _restarts(positions: Tensor, mask: Tensor | None) -> Tensor:
    """Where the position ids of attended tokens start again."""
    starts = torch.zeros(positions.shape, dtype=torch.bool)
    attended = mask is not None and mask.shape == positions.shape
    for row, ids in enumerate(positions.cpu()):
        places = mask[row].cpu().nonzero().flatten() if attended and mask is not None else torch.arange(len(ids))
        ids = ids[places]
        # A position that is only repeated is no start: the patches of an image may share one.
        steps = ids.diff()
        again = (steps < 0) | ((steps == 0) & (ids[1:] == ids.min())) if len(ids) else steps.bool()
        starts[row, places[1:][again]] = True
    starts[:, 0] = True
    return starts


def _from_cumulative(name: str, bounds: Tensor, rows: int, length: int) -> Tensor:
    """Where segments begin according to flash attention's bounds in the flattened batch."""
    bounds = bounds.flatten().long().cpu()
    ends_right = len(bounds) > 1 and int(bounds[0]) == 0 and int(bounds[-1]) == rows * length
    if not ends_right or bool((bounds.diff() <= 0).any()):
        raise ValueError(
            f"{name!r} of the batch must grow from 0 to its {rows * length} tokens, not {bounds.tolist()[:5]}…: give "
            "the batch as the collator made it, or unpack the examples"
        )
    starts = torch.zeros(rows * length, dtype=torch.bool)
    starts[bounds[:-1]] = True
    if not bool(starts.view(rows, length)[:, 0].all()):
        raise ValueError(f"{name!r} of the batch has an example that goes on in the next row: unpack the examples")
    return starts.view(rows, length)


def _from_lengths(lengths: Any, rows: int, length: int) -> Tensor:
    """Where segments begin according to the lengths of each row's; what they leave of a row is padding."""
    if rows == 1 and len(lengths) and torch.as_tensor(lengths[0]).ndim == 0:
        lengths = [lengths]
    listed = [[int(entry) for entry in torch.as_tensor(row).flatten() if int(entry)] for row in lengths]
    if len(listed) != rows or any(sum(row) > length or min(row, default=0) < 0 for row in listed):
        raise ValueError(
            f"'seq_lengths' of the batch must hold the lengths of the examples in each of its {rows} row(s) of "
            f"{length} tokens, not {listed}: give the batch as the collator made it, or unpack the examples"
        )
    starts = torch.zeros(rows, length, dtype=torch.bool)
    for row, entries in enumerate(listed):
        begins = torch.tensor([0, *entries[:-1]]).cumsum(0)
        starts[row, begins] = True
        starts[row, sum(entries) :] = True
    return starts


def _with_row_starts(later: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(later[:, :1]), later], 1)


def _numbers(batch: Mapping[str, Any], starts: Tensor) -> Tensor:
    """The example of each position. Collators pad a row with segments of one token that has no label."""
    rows, length = starts.shape
    labels = batch.get("labels")
    labelled = (labels != -100).cpu() if isinstance(labels, Tensor) and labels.shape == starts.shape else ~starts
    numbers = torch.full((rows, length), -1)
    count = 0
    for row in range(rows):
        begins = starts[row].nonzero().flatten().tolist()
        ends = [*begins[1:], length]
        while len(begins) > 1 and ends[-1] - begins[-1] == 1 and not bool(labelled[row, begins[-1]]):
            begins.pop(), ends.pop()
        for begin, end in zip(begins, ends, strict=True):
            numbers[row, begin:end] = count
            count += 1
    return numbers


def _is_per_token(value: Tensor, rows: int, length: int) -> bool:
    return value.ndim > 1 and value.shape[0] in (1, rows) and value.shape[1] == length


def _part(batch: Mapping[str, Any], segments: Segments, rows: slice, columns: slice) -> dict[str, Any]:
    """Some rows and columns of a packed batch."""
    height, length = segments.numbers.shape
    part: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and _is_per_token(value, height, length):
            part[name] = value.expand(height, *value.shape[1:])[rows, columns]
        elif isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim):
            part[name] = value[rows] if len(value) == height else value
        else:
            part[name] = value
    return part | _boundaries(batch, segments.starts[rows, columns])


def _boundaries(batch: Mapping[str, Any], starts: Tensor) -> dict[str, Any]:
    """What a batch tells of its segments' lengths, for other segments."""
    bounds = torch.cat([starts.flatten().nonzero().flatten(), torch.tensor([starts.numel()])])
    lengths = [torch.cat([row.nonzero().flatten(), torch.tensor([len(row)])]).diff().tolist() for row in starts]
    told: dict[str, Any] = {}
    for name in _CUMULATIVE:
        if batch.get(name) is not None:
            given = torch.as_tensor(batch[name])
            told[name] = bounds.to(given.device, given.dtype)
    for name in _LONGEST:
        if batch.get(name) is not None:
            longest = int(bounds.diff().max())
            told[name] = torch.full_like(batch[name], longest) if isinstance(batch[name], Tensor) else longest
    return told | ({"seq_lengths": lengths} if batch.get("seq_lengths") is not None else {})
