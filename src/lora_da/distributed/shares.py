"""Which process reads which examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from lora_da.distributed.processes import Processes
from lora_da.statistics.batches.examples import find_dataset_length, take_examples
from lora_da.system.hashing import hash_tensors
from lora_da.system.random_state import preserve_random_state

_DIVIDING = {"DistributedSampler", "DataLoaderShard", "DataLoaderDispatcher", "BatchSamplerShard"}


def select_own_batches(
    dataloader: Iterable[Any],
    max_examples: int,
    processes: Processes | None,
    rows_per_example: int | None = 1,
    *,
    coupled: bool = False,
) -> list[dict[str, Any]]:
    """Return the batches that this process reads: all if it is alone.

    A loader that accelerate or a DistributedSampler has divided gives each process a part of the examples; any other is
    the same in every process, and each takes every ``size``-th batch of it.

    Args:
        dataloader: The loader.
        max_examples: How many examples all processes read together.
        processes: The job, if there is one; all its processes have to call.
        rows_per_example: See :func:`lora_da.statistics.batches.examples.take_examples`.
        coupled: See there.

    Raises:
        ValueError: A loader that is not divided differs between the processes, or one process reads for all.
    """
    with preserve_random_state(dataloader):
        if processes is None:
            return list(take_examples(dataloader, max_examples, rows_per_example, coupled=coupled))
        if is_divided(dataloader):
            # No more than there are: samplers repeat examples until all processes have equally many.
            count = min(max_examples, find_dataset_length(dataloader) or max_examples)
            mine = _part_of(dataloader, count, processes)
            return list(take_examples(dataloader, mine, rows_per_example, coupled=coupled)) if mine else []
        batches = list(take_examples(dataloader, max_examples, rows_per_example, coupled=coupled))
    if len(set(processes.gather_objects(_digest(batches), "sharing out the examples"))) > 1:
        raise ValueError(
            "the processes' data loaders give different batches: give all the same (one seed for all where they "
            "shuffle), or one that a DistributedSampler or accelerate divides"
        )
    return batches[processes.rank :: processes.size]


def _part_of(dataloader: Any, count: int, processes: Processes) -> int:
    """How many of the first examples of all processes together a divided loader gives this one."""
    if type(dataloader).__name__ == "DataLoaderDispatcher":
        raise ValueError(
            "a loader of accelerate's whose first process reads for all (dispatch_batches) can't be used: give the "
            "loader as it was before accelerate prepared it"
        )
    size, rank = processes.size, processes.rank
    batches: Any = getattr(dataloader, "batch_sampler", None)
    if type(batches).__name__ != "BatchSamplerShard":  # a DistributedSampler deals out single examples
        return count // size + (rank < count % size)
    # accelerate's deals out whole batches, or parts of each, and fills the last ones up from the start.
    whole = batches.batch_size
    if batches.split_batches:
        part = whole // size
        return sum(max(0, min(part, count - start - rank * part)) for start in range(0, count, whole))
    return sum(min(whole, count - start) for start in range(rank * whole, count, size * whole))


def _digest(batches: list[dict[str, Any]]) -> str:
    """What tells some batches from others: their number and the first one's tensors."""
    first = batches[0].items() if batches else ()
    return f"{len(batches)} {hash_tensors((key, value) for key, value in first if isinstance(value, Tensor))}"


def is_divided(dataloader: Any) -> bool:
    """Return whether a loader gives this process a part of the examples already."""
    batch_sampler = getattr(dataloader, "batch_sampler", None)
    parts = (dataloader, getattr(dataloader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return any(type(part).__name__ in _DIVIDING for part in parts)


def count_repeats(batches: int, processes: Processes) -> int:
    """Return how often a process has to run the model once more for nothing, where every run is one of all processes.

    That is so where the weights are sharded: each layer's forward and backward pass gathers them from all processes.

    Raises:
        ValueError: There are fewer batches than processes.
    """
    counts = processes.gather_objects(batches, "sharing out the examples")
    if min(counts) == 0:
        raise ValueError(
            f"{sum(counts)} batches are too few for {processes.size} processes that share the weights: use a smaller "
            "batch size"
        )
    return int(max(counts)) - batches
