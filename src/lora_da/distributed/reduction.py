"""The statistics of all processes as one: a single reduction of the sums, in buckets."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator

import torch
from torch import Tensor

from lora_da.distributed.processes import Processes
from lora_da.statistics.sums import Statistics

BUCKET_ELEMENTS = 2**24
"""Entries exchanged at once: 64 MiB in float32."""

_DOING = "adding up the statistics"


def reduced(statistics: Statistics | None, processes: Processes) -> Statistics:
    """The union of all processes' statistics, the same to the last bit in each of them.

    Args:
        statistics: This process's own, of examples that no other process has; None if it had none to read.
        processes: The job.

    Raises:
        ValueError: No process read an example, or their statistics don't add.
        ProcessError: Another process failed.
    """
    outlines = [outline for outline in processes.gathered(_outline(statistics), _DOING) if outline is not None]
    if not outlines:
        raise ValueError("no process read an example: there is nothing to estimate from")
    union: Statistics = functools.reduce(operator.add, outlines)
    return dataclasses.replace(
        union,
        gradient_sums=_summed(union.gradient_sums, statistics.gradient_sums if statistics else {}, processes),
        output_sums=_summed(union.output_sums, statistics.output_sums if statistics else {}, processes),
        input_sums=_summed(union.input_sums, statistics.input_sums if statistics else {}, processes),
        population_size=outlines[0].population_size,  # all are samples of one data set
    )


def _outline(statistics: Statistics | None) -> Statistics | None:
    """The statistics with shapes in place of sums: small, and they add by the same rules."""
    if statistics is None:
        return None
    return dataclasses.replace(
        statistics,
        gradient_sums={name: tensor.to("meta") for name, tensor in statistics.gradient_sums.items()},
        output_sums={name: tensor.to("meta") for name, tensor in statistics.output_sums.items()},
        input_sums={name: tensor.to("meta") for name, tensor in statistics.input_sums.items()},
    )


def _summed(outline: dict[str, Tensor], mine: dict[str, Tensor], processes: Processes) -> dict[str, Tensor]:
    """One kind of sums over all processes; layers that this one's examples did not reach count as zero."""
    result: dict[str, Tensor] = {}
    for names in _buckets(outline):
        parts = [mine.get(name, torch.zeros(outline[name].shape, dtype=outline[name].dtype)) for name in names]
        flat = processes.summed(torch.cat([part.to(processes.device).flatten() for part in parts]), _DOING)
        sizes = [part.numel() for part in parts]
        for name, part, total in zip(names, parts, flat.split(sizes), strict=True):
            result[name] = total.view(part.shape).to(part.device)
    return result


def _buckets(outline: dict[str, Tensor]) -> Iterator[list[str]]:
    """Names in the order that all processes share, in groups of about the bucket's size."""
    bucket: list[str] = []
    filled = 0
    for name, tensor in outline.items():
        if bucket and filled + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, filled = [], 0
        bucket.append(name)
        filled += tensor.numel()
    if bucket:
        yield bucket
