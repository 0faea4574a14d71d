"""The statistics of all processes as one: a single reduction of the sums, in buckets."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lora_da.distributed.processes import Processes
from lora_da.statistics.sums import Statistics

BUCKET_ELEMENTS = 2**24
"""Entries exchanged at once: 64 MiB in float32."""

_DOING = "adding up the statistics"


def all_reduce_statistics(statistics: Statistics | None, processes: Processes) -> Statistics:
    """Return the union of all processes' statistics, the same to the last bit in each of them.

    The tensors of this process's own take the result, as there may be no memory for two of each; without an example to
    read it has None.

    Raises:
        ValueError: No process read an example, or their statistics don't add.
        ProcessError: Another process failed.
    """
    gathered = processes.gather_objects(_without_entries(statistics), _DOING)
    shapes = [others for others in gathered if others is not None]
    if not shapes:
        raise ValueError("no process read an example: there is nothing to estimate from")
    union: Statistics = functools.reduce(operator.add, shapes)
    return dataclasses.replace(
        union,
        gradient_sums=_all_reduce_sums(union.gradient_sums, statistics.gradient_sums if statistics else {}, processes),
        output_sums=_all_reduce_sums(union.output_sums, statistics.output_sums if statistics else {}, processes),
        input_sums=_all_reduce_sums(union.input_sums, statistics.input_sums if statistics else {}, processes),
        half=dataclasses.replace(
            union.half,
            gradient_sums=_all_reduce_sums(
                union.half.gradient_sums, statistics.half.gradient_sums if statistics else {}, processes
            ),
        ),
        population_size=shapes[0].population_size,  # all are samples of one data set
    )


def _without_entries(statistics: Statistics | None) -> Statistics | None:
    """The statistics with shapes in place of sums: small, and they add by the same rules."""
    if statistics is None:
        return None
    return dataclasses.replace(
        statistics,
        gradient_sums={name: tensor.to("meta") for name, tensor in statistics.gradient_sums.items()},
        output_sums={name: tensor.to("meta") for name, tensor in statistics.output_sums.items()},
        input_sums={name: tensor.to("meta") for name, tensor in statistics.input_sums.items()},
        half=dataclasses.replace(
            statistics.half,
            gradient_sums={name: tensor.to("meta") for name, tensor in statistics.half.gradient_sums.items()},
        ),
    )


def _all_reduce_sums(shapes: dict[str, Tensor], mine: dict[str, Tensor], processes: Processes) -> dict[str, Tensor]:
    """One kind of sums over all processes; layers that this one's examples did not reach count as zero."""
    result = {
        name: mine[name].contiguous() if name in mine else torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in shapes.items()  # in the order that all processes share
    }
    for bucket in _buckets(result.values()):
        flat = processes.all_reduce_sum(torch.cat([piece.to(processes.device) for piece in bucket]), _DOING)
        for piece, total in zip(bucket, flat.split([piece.numel() for piece in bucket]), strict=True):
            piece.copy_(total)
    return result


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Flat views of all entries, in groups that together fill at most a bucket."""
    bucket: list[Tensor] = []
    filled = 0
    for piece in (piece for tensor in tensors for piece in tensor.view(-1).split(BUCKET_ELEMENTS)):
        if bucket and filled + piece.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, filled = [], 0
        bucket.append(piece)
        filled += piece.numel()
    if bucket:
        yield bucket
