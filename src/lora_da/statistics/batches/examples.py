"""Which examples of a loader are read, and how many a batch holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from lora_da.statistics.batches.segments import cut_segments, find_segments

_TENSORS = ("input_ids", "inputs_embeds", "attention_mask", "decoder_input_ids", "labels", "label", "label_ids")


def take_examples(
    dataloader: Iterable[Any], max_examples: int, rows_per_example: int | None = 1, *, coupled: bool = False
) -> Iterator[dict[str, Any]]:
    """Read the first examples of a loader, batch by batch; the last batch is cut to reach the number exactly.

    Each segment of a packed batch is one example.

    Args:
        dataloader: The loader.
        max_examples: How many examples to read.
        rows_per_example: How many rows one has; None where that is not known, so that no batch can be cut.
        coupled: Whether an example's loss depends on the others of its batch, so that none can be cut either.

    Raises:
        TypeError: A batch is no mapping.
        ValueError: ``max_examples`` is not positive, a batch holds lists, or it would have to be cut and can't be.
    """
    if not isinstance(max_examples, Integral) or max_examples < 1:
        raise ValueError(f"max_examples must be at least 1, not {max_examples}")
    left = max_examples
    for index, batch in zip(count(), dataloader, strict=False):
        _check_batch(index, batch)
        size = batch_size(batch, rows_per_example or 1)
        try:
            yield from cut_batch(batch, left, rows_per_example, coupled=coupled)
        except ValueError as error:
            read = max_examples - left
            raise ValueError(
                f"max_examples={max_examples} ends within batch {index}, which can't be cut: {error}. Give "
                + (f"max_examples={read} or {read + size}" if read else f"max_examples={size}")
                + ", where a batch ends, or smaller batches"
            ) from error
        left -= min(size, left)
        if left == 0:
            return


def cut_batch(
    batch: Mapping[str, Any], most: int, rows_per_example: int | None = 1, *, coupled: bool = False
) -> list[dict[str, Any]]:
    """Keep the first examples of a batch, ``most`` if there are more.

    Returns:
        The batch; where it is cut in the middle of a packed row, the rows before and the beginning of that row.

    Raises:
        ValueError: It has more, and what belongs to them can't be told.
    """
    size = batch_size(batch, rows_per_example or 1)
    if size <= most:
        return [dict(batch)]
    if coupled:
        raise ValueError("each of its examples' losses depends on all of them")
    if rows_per_example is None:
        raise ValueError(
            "its loss is one's own, which may couple its rows (if each example has k rows of its own, set the "
            "function's attribute rows_per_example = k)"
        )
    segments = find_segments(batch)
    if segments is not None:
        return cut_segments(batch, segments, most)
    rows = torch.arange(size * rows_per_example).view(rows_per_example, size)[:, :most].flatten()
    chosen = {size * rows_per_example: rows, size: rows[:most]}  # entries of rows, and of examples
    return [{name: _pick(name, value, chosen) for name, value in batch.items()}]


def _pick(name: str, value: Any, chosen: Mapping[int, Tensor]) -> Any:
    """Entries of a part of a batch, by what each length of it means."""
    if isinstance(value, Tensor) and value.ndim and len(value) in chosen:
        return value[chosen[len(value)].to(value.device)]
    if isinstance(value, list | tuple) and len(value) in chosen:
        return type(value)(value[row] for row in chosen[len(value)].tolist())
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(f"its {name!r} of shape {tuple(value.shape)} has no entry of its own for each example")
    return value


def batch_size(batch: Mapping[str, Any], rows_per_example: int = 1) -> int:
    """Count the examples of a batch: its rows, divided by those of one, or the segments of packed rows.

    Raises:
        ValueError: It holds no tensor, or none with an example, or a part of one.
    """
    rows, segments = count_rows(batch), find_segments(batch)
    if segments is not None:
        return segments.count
    if rows % rows_per_example:
        raise ValueError(f"a batch of {rows} rows has no whole number of examples of {rows_per_example} rows each")
    return rows // rows_per_example


def count_rows(batch: Mapping[str, Any]) -> int:
    """Count the rows of a batch.

    Raises:
        ValueError: It holds no tensor, or none with a row.
    """
    tensors = [value for value in batch.values() if isinstance(value, Tensor) and value.ndim]
    main = batch.get("input_ids", batch.get("inputs_embeds", tensors[0] if tensors else None))
    if main is None or len(main) == 0:
        raise ValueError(f"a batch has no example; its keys are {list(batch)}")
    return len(main)


def find_dataset_length(dataloader: Any) -> int | None:
    """Return the length of the data set behind a loader, if it has one that knows."""
    return find_length(getattr(dataloader, "dataset", None))


def find_length(dataset: Any) -> int | None:
    """Return the length of a data set, or None: those that stream may have none, or raise any error when asked."""
    try:
        return len(dataset)
    except Exception:  # TypeError, NotImplementedError, RuntimeError have been seen
        return None


def _check_batch(index: int, batch: Any) -> None:
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"batch {index} of the data loader is a {type(batch).__name__}; a mapping of names such as input_ids, "
            "attention_mask and labels to tensors is needed"
        )
    for name in _TENSORS:
        value = batch.get(name)
        if value is not None and not isinstance(value, Tensor):
            raise ValueError(
                f"{name!r} in batch {index} of the data loader is a {type(value).__name__}, no tensor: give the data "
                "set with its collate_fn, or a DataLoader with a collator that pads and makes tensors"
            )
        if value is not None and value.ndim < (2 if name == "input_ids" else 1):
            raise ValueError(
                f"{name!r} in batch {index} of the data loader has the shape {tuple(value.shape)}: that is one "
                "example, not a batch of them. Give the data set with its collate_fn, or a DataLoader"
            )
    ids, mask = batch.get("input_ids"), batch.get("attention_mask")
    if ids is not None and ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"'input_ids' in batch {index} of the data loader is in {ids.dtype}: token ids are in int64")
    if ids is not None and len(ids) and ids.numel() == 0:
        raise ValueError(f"'input_ids' in batch {index} of the data loader has the shape {tuple(ids.shape)}: no token")
    if ids is not None and mask is not None and mask.ndim == ids.ndim and mask.shape != ids.shape:
        raise ValueError(
            f"'attention_mask' in batch {index} of the data loader has the shape {tuple(mask.shape)}, its 'input_ids' "
            f"{tuple(ids.shape)}: there must be one entry a token"
        )
