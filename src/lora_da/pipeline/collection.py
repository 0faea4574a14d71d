"""All layers of a model: from batches to their statistics, within a memory budget, by one process or several."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lora_da.adapter.layers import adapters_disabled, base_model_of, identity_of
from lora_da.adapter.sharding import has_shards
from lora_da.config import CollectionConfig
from lora_da.distributed.processes import Processes
from lora_da.distributed.reduction import reduced
from lora_da.distributed.shares import repeats_needed
from lora_da.pipeline.checkpoint import (
    Checkpoint,
    fingerprint_of_weights,
    left_to_read,
    load_partial,
    load_plan,
    save_plan,
)
from lora_da.pipeline.memory_plan import MemoryLimits, MemoryPlan, gibibytes, memory_limits, plan_memory
from lora_da.solver.layer import solver_bytes
from lora_da.statistics.accumulator import COMPENSATED_ABOVE
from lora_da.statistics.batches.examples import batch_size, cut_batch
from lora_da.statistics.hooks.experts import Layer
from lora_da.statistics.hooks.shared_inputs import shared_inputs
from lora_da.statistics.losses.example_losses import ExampleLoss
from lora_da.statistics.one_pass import calibration_loss, collect, device_of
from lora_da.statistics.storage import save_statistics
from lora_da.statistics.sums import Statistics
from lora_da.system.memory import MemoryBudget


@dataclass(frozen=True)
class Source:
    """What is collected from.

    Attributes:
        model: As the user gave it, out of DistributedDataParallel.
        layers: The layers to serve, by their names in the base model.
        shapes: Their (d_out, d_in).
        batches: Those that this process reads.
        processes: The job, if it is one of several processes.
        example_loss: See :func:`lora_da.collect_statistics`.
        progress: Whether to show progress bars.
    """

    model: nn.Module
    layers: Mapping[str, Layer]
    shapes: Mapping[str, tuple[int, int]]
    batches: Sequence[Mapping[str, Any]]
    processes: Processes | None
    example_loss: ExampleLoss | None
    progress: bool

    @property
    def base(self) -> nn.Module:
        """The model inside PEFT's and the compiler's wrappers."""
        return base_model_of(self.model)

    @property
    def sharded(self) -> bool:
        """Whether the processes share the weights, so that each of their runs is one of all."""
        return has_shards(self.base)

    @property
    def entry(self) -> nn.Module:
        """What is called: sharded weights are gathered by the outermost module alone."""
        return self.model if self.sharded else self.base

    @property
    def compensated(self) -> bool:
        """Whether there are so many batches that the sums need to carry their rounding errors along."""
        return len(self.batches) > COMPENSATED_ABOVE


def plan_collection(
    source: Source, config: CollectionConfig, budget: MemoryBudget, checkpoint: Checkpoint | None = None
) -> MemoryPlan:
    """How the statistics are collected within a budget; the same in all processes.

    Args:
        source: What is collected from.
        config: What is collected.
        budget: See :func:`lora_da.collect_statistics`.
        checkpoint: Where the plan of an interrupted collection is kept. It is taken again, or its statistics would not
            be found: how much memory is free changes from run to run.

    Raises:
        ValueError: Not even the layers of one input fit, or the budget is no size.
    """
    if checkpoint is None:
        return _new_plan(source, config, budget)
    processes, file = source.processes, _file(source, checkpoint, config, budget).with_suffix(".json")
    with _in_all(source):
        kept = load_plan(file)
    plans = processes.gathered(kept, "planning the collection") if processes else [kept]
    if kept is not None and all(plan == kept for plan in plans):
        return kept
    plan = _new_plan(source, config, budget)
    with _in_all(source):
        save_plan(plan, file)
    return plan


def _new_plan(source: Source, config: CollectionConfig, budget: MemoryBudget) -> MemoryPlan:
    of_layer = {name: device_of(layer) for name, layer in source.layers.items()}
    numbers = {device: str(number) for number, device in enumerate(dict.fromkeys(of_layer.values()))}
    local = 1 if source.processes is None else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    full = config.output_factor == "full"
    solver = max(solver_bytes(*shape, full=full) for shape in source.shapes.values())
    limits, compensated = memory_limits(numbers, budget, processes=local, solver=solver), source.compensated
    if source.processes is not None:
        everyone = source.processes.gathered((limits, compensated), "planning the collection")
        limits, compensated = _least([own for own, _ in everyone]), any(own for _, own in everyone)
    devices = {name: numbers[device] for name, device in of_layer.items()}
    if sum(limits.devices.values()) == 0:
        raise ValueError(
            f"no memory is free for the statistics beside the solution of the largest layer, {gibibytes(solver)}: give "
            "memory_budget a size to try it all the same, or leave the widest layers out of target_modules"
        )
    try:  # as if no layers shared their input: what is needed at most
        alone = {name: name for name in source.layers}
        plan = plan_memory(source.shapes, alone, devices, limits, config, compensated=compensated)
        if len(plan.passes) == 1 and plan.place == "device":
            return plan
    except ValueError:
        pass
    return plan_memory(source.shapes, _input_groups(source), devices, limits, config, compensated=compensated)


def _least(limits: Sequence[MemoryLimits]) -> MemoryLimits:
    hosts = [own.host for own in limits if own.host is not None]
    devices = {name: min(own.devices[name] for own in limits) for name in limits[0].devices}
    return MemoryLimits(devices, min(hosts) if hosts else None)


def _input_groups(source: Source) -> dict[str, str]:
    """Which layers share their input, as one process's first example shows it."""
    groups = None
    if source.batches:
        with adapters_disabled(source.base):
            (example,) = cut_batch(source.batches[0], 1)
            groups = shared_inputs(source.base, source.layers, example, device_of(source.base), source.entry)
    if source.processes is not None:
        groups = next(filter(None, source.processes.gathered(groups, "planning the collection")), None)
    if groups is None:
        raise ValueError("there is no example: there is nothing to estimate from")
    return groups


def collected(
    source: Source, config: CollectionConfig, plan: MemoryPlan, checkpoint: Checkpoint | None = None
) -> Iterator[tuple[Sequence[str], Statistics]]:
    """Each pass of a plan: its layers, and their statistics over the batches of all processes.

    Args:
        source: What is collected from.
        config: What is collected.
        plan: From :func:`plan_collection`.
        checkpoint: Where unfinished statistics are kept.

    Raises:
        ValueError: An example can't be used, or no layer receives a gradient.
        ProcessError: Another process failed.
    """
    reached = False
    for number, names in enumerate(plan.passes, 1):
        title = "statistics" if len(plan.passes) == 1 else f"statistics, pass {number} of {len(plan.passes)}"
        part = dataclasses.replace(source, layers={name: source.layers[name] for name in names})
        statistics = _one_pass(part, config, plan, checkpoint, title)
        reached = reached or bool(statistics.tokens)
        yield names, statistics
        del statistics  # before the next pass needs the memory
    if not reached:
        raise ValueError("no layer received a gradient: the loss does not depend on any of the layers")


def _one_pass(
    source: Source, config: CollectionConfig, plan: MemoryPlan, checkpoint: Checkpoint | None, title: str
) -> Statistics:
    processes, identity = source.processes, identity_of(source.base)
    file = _file(source, checkpoint, config) if checkpoint else None
    with _in_all(source):
        done = load_partial(file) if file else None
    left, repeats = left_to_read(source.batches, done), 0
    if processes is not None and source.sharded:
        if min(processes.gathered(len(left), "sharing out the examples")) == 0:
            done, left = None, source.batches  # the processes need each other to the end: all start anew
        repeats = repeats_needed(len(left), processes)
    with _in_all(source):
        if left:
            with adapters_disabled(source.base):
                done = collect(
                    source.base,
                    source.layers,
                    left,
                    config,
                    max_examples=sum(map(batch_size, left)),
                    identity=identity,
                    example_loss=source.example_loss,
                    progress=source.progress,
                    repeats=repeats,
                    entry=source.entry,
                    place=plan.place,
                    compensated=source.compensated,
                    description=title,
                    start=done,
                    after_batch=checkpoint.saving(file) if checkpoint and file else None,
                )
            if file is not None:
                save_statistics(done, file, overwrite=True)  # a later pass may be interrupted too
    if processes is not None:
        return reduced(done, processes)
    if done is None:
        raise ValueError("the data loader gave no batch: there is nothing to estimate from")
    return done


def _file(source: Source, checkpoint: Checkpoint, config: CollectionConfig, *belonging: object) -> Path:
    """The checkpoint's file of a collection: another's are other examples, layers, weights, settings or losses."""
    processes, loss = source.processes, source.example_loss
    place = (processes.rank, processes.size) if processes else (0, 1)
    about = (place, config, getattr(loss, "__qualname__", type(loss).__name__), *belonging)
    return checkpoint.file(source.batches, list(source.layers), fingerprint_of_weights(source.layers.values()), *about)


@contextmanager
def _in_all(source: Source) -> Iterator[None]:
    """Let an error of one process end all of them."""
    error = None
    try:
        yield
    except Exception as raised:  # raised again, in every process
        # Where the weights are shared, the others wait for this one's part of them, and could not be told.
        if source.processes is None or source.sharded:
            raise
        error = raised
    if source.processes is not None:
        source.processes.together(error, "collecting statistics")


def mean_loss(source: Source, config: CollectionConfig) -> float:
    """The mean loss of the examples of all processes in nats, with adapters as they are."""
    repeats = 0
    if source.processes is not None and source.sharded:
        repeats = repeats_needed(len(source.batches), source.processes)
    total, count = calibration_loss(
        source.base,
        source.batches,
        config,
        device_of(source.base),
        source.example_loss,
        progress=source.progress,
        repeats=repeats,
        entry=source.entry,
    )
    if source.processes is not None:
        parts = source.processes.gathered((total, count), "measuring the loss")
        total, count = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return total / count
