"""Which process reads which examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from lora_da.distributed.processes import Processes
from lora_da.statistics.batches.examples import dataset_length, take_examples
from lora_da.statistics.estimation_mode import random_state_kept

_DIVIDING = {"DistributedSampler", "DataLoaderShard", "DataLoaderDispatcher", "BatchSamplerShard"}


def own_batches(
    dataloader: Iterable[Mapping[str, Any]], max_examples: int, processes: Processes | None
) -> list[dict[str, Any]]:
    """The batches that this process reads: all if it is alone.

    A loader that accelerate or a DistributedSampler has divided gives each process a part of the examples; any other is
    the same in every process, and each takes every ``size``-th batch of it.

    Args:
        dataloader: The loader.
        max_examples: How many examples all processes read together.
        processes: The job, if there is one; all its processes have to call.

    Raises:
        ValueError: A loader that is not divided differs between the processes, or one process reads for all.
    """
    with random_state_kept(dataloader):
        if processes is None:
            return list(take_examples(dataloader, max_examples))
        if is_divided(dataloader):
            # No more than there are: samplers repeat examples until all processes have equally many.
            count = min(max_examples, dataset_length(dataloader) or max_examples)
            mine = _part_of(dataloader, count, processes)
            return list(take_examples(dataloader, mine)) if mine else []
        batches = list(take_examples(dataloader, max_examples))
    if len(set(processes.gathered(_digest(batches), "sharing out the examples"))) > 1:
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
    """Of the first batch's tensors."""
    digest = hashlib.sha256()
    for value in batches[0].values() if batches else ():
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return f"{len(batches)} {digest.hexdigest()}"


def is_divided(dataloader: Any) -> bool:
    """Whether a loader gives this process a part of the examples already."""
    batch_sampler = getattr(dataloader, "batch_sampler", None)
    parts = (dataloader, getattr(dataloader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return any(type(part).__name__ in _DIVIDING for part in parts)


def repeats_needed(batches: int, processes: Processes) -> int:
    """How often a process has to run the model once more for nothing, where every run is one of all processes.

    That is so where the weights are sharded: each layer's forward and backward pass gathers them from all processes.

    Raises:
        ValueError: There are fewer batches than processes.
    """
    counts = processes.gathered(batches, "sharing out the examples")
    if min(counts) == 0:
        raise ValueError(
            f"{sum(counts)} batches are too few for {processes.size} processes that share the weights: use a smaller "
            "batch size"
        )
    return int(max(counts)) - batches
