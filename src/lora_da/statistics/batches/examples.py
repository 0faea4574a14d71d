"""Which examples of a loader are read, and how many a batch holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from torch import Tensor

from lora_da.statistics.batches.segments import cut_segments, find_segments


def take_examples(dataloader: Iterable[Any], max_examples: int) -> Iterator[dict[str, Any]]:
    """Read the first examples of a loader, batch by batch; the last batch is cut to reach the number exactly.

    Each segment of a packed batch is one example.

    Raises:
        TypeError: A batch is no mapping.
        ValueError: ``max_examples`` is not positive.
    """
    if max_examples < 1:
        raise ValueError(f"max_examples must be at least 1, not {max_examples}")
    left = max_examples
    for index, batch in zip(count(), dataloader, strict=False):
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"batch {index} of the data loader is a {type(batch).__name__}; a mapping of names such as input_ids, "
                "attention_mask and labels to tensors is needed"
            )
        size = batch_size(batch)
        yield from cut_batch(batch, left)
        left -= min(size, left)
        if left == 0:
            return


def cut_batch(batch: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    """Keep the first examples of a batch, ``most`` if there are more.

    Returns:
        The batch; where it is cut in the middle of a packed row, the rows before and the beginning of that row.
    """
    size = batch_size(batch)
    if size <= most:
        return [dict(batch)]
    segments = find_segments(batch)
    if segments is not None:
        return cut_segments(batch, segments, most)
    return [{key: value[:most] if _has_one_entry_an_example(value, size) else value for key, value in batch.items()}]


def batch_size(batch: Mapping[str, Any]) -> int:
    """Count the examples of a batch: its rows, or the segments of packed rows.

    Raises:
        ValueError: It holds no tensor, or none with an example.
    """
    tensors = [value for value in batch.values() if isinstance(value, Tensor) and value.ndim]
    main = batch.get("input_ids", batch.get("inputs_embeds", tensors[0] if tensors else None))
    if main is None or len(main) == 0:
        raise ValueError(f"a batch has no example; its keys are {list(batch)}")
    segments = find_segments(batch)
    return len(main) if segments is None else segments.count


def find_dataset_length(dataloader: Any) -> int | None:
    """Return the length of the data set behind a loader, if it has one that knows."""
    dataset: Any = getattr(dataloader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None


def _has_one_entry_an_example(value: Any, size: int) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == size
    return isinstance(value, list | tuple) and len(value) == size
