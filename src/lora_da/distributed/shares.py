"""Which process reads which examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lora_da.distributed.agreement import check_agreement, failing_together
from lora_da.distributed.processes import Processes
from lora_da.statistics.batches.examples import find_dataset_length, take_examples
from lora_da.system.hashing import hash_batches
from lora_da.system.random_state import preserve_random_state

_DOING = "sharing out the examples"
_REMEDY = (
    "give all of them the same data loader (one seed for all where it shuffles), or one that a DistributedSampler or "
    "accelerate divides"
)
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
    divided, most = processes is not None and is_divided(dataloader), max_examples
    with failing_together(processes, _DOING), preserve_random_state(dataloader):
        if processes is not None and divided:
            # No more than there are: samplers repeat examples until all processes have equally many.
            count = min(max_examples, find_dataset_length(dataloader) or max_examples)
            most = _part_of(dataloader, count, processes)
        nothing = divided and most == 0
        batches = [] if nothing else list(take_examples(dataloader, most, rows_per_example, coupled=coupled))
    if processes is None or divided:
        return batches
    check_agreement(
        {"the data loader's batches": f"{len(batches)} with digest {hash_batches(batches)[:16]}"}, processes, _REMEDY
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
    counts = processes.gather_objects(batches, _DOING)
    if min(counts) == 0:
        raise ValueError(
            f"{sum(counts)} batches are too few for {processes.size} processes that share the weights: use a smaller "
            "batch size"
        )
    return int(max(counts)) - batches
