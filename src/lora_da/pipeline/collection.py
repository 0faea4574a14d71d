"""The statistics of all layers, in the passes of a plan, over the examples of all processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_da.adapter.activation import adapters_disabled
from lora_da.adapter.identity import identify_model
from lora_da.config import CollectionConfig
from lora_da.distributed.reduction import all_reduce_statistics
from lora_da.pipeline._collection_plan import plan_collection
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.checkpoint import Partial, left_to_read, load_partial, save_partial
from lora_da.pipeline.memory_plan import MemoryPlan
from lora_da.statistics.one_pass import OnePass, Procedure
from lora_da.statistics.sums import Statistics
from lora_da.system.sizes import MemoryBudget, format_size


def collect_in_one_pass(
    source: CalibrationSource, config: CollectionConfig, budget: MemoryBudget, partial: Partial | None = None
) -> Statistics:
    """Return the statistics of all layers together.

    Raises:
        ValueError: They exceed the budget; or as :func:`collect_passes`.
    """
    plan = plan_collection(source, config, budget, partial)
    if len(plan.passes) > 1:
        raise ValueError(
            f"the statistics of all layers together take {format_size(sum(plan.bytes))}, more than the memory budget: "
            f"raise it, or let initialize_lora_da_weights collect and solve them in {len(plan.passes)} passes"
        )
    ((_, statistics),) = collect_passes(source, config, plan, partial)
    return statistics


def collect_passes(
    source: CalibrationSource, config: CollectionConfig, plan: MemoryPlan, partial: Partial | None = None
) -> Iterator[tuple[Sequence[str], Statistics]]:
    """Yield each pass of a plan: its layers, and their statistics over the batches of all processes.

    Raises:
        ValueError: An example can't be used, or no layer receives a gradient.
        ProcessError: Another process failed.
    """
    reached = False
    for number, names in enumerate(plan.passes, 1):
        title = "statistics" if len(plan.passes) == 1 else f"statistics, pass {number} of {len(plan.passes)}"
        part = dataclasses.replace(source, layers={name: source.layers[name] for name in names})
        statistics = _collect_pass(part, config, plan, partial, title)
        reached = reached or bool(statistics.tokens)
        yield names, statistics
        del statistics  # before the next pass needs the memory
    if not reached:
        raise ValueError("no layer received a gradient: the loss does not depend on any of the layers")


def _collect_pass(
    source: CalibrationSource, config: CollectionConfig, plan: MemoryPlan, partial: Partial | None, title: str
) -> Statistics:
    if partial is not None:
        source = source.counting_rows()  # a restart has to know how many examples a batch holds
    file = partial.find_file(source.layers) if partial else None
    with source.failing_together():
        done = load_partial(file, source, config) if file else None
    left = left_to_read(source.batches, done, source.objective.count_examples)
    if source.processes is not None and source.sharded:  # the processes need each other to the end
        least = min(source.processes.gather_objects(len(left), "sharing out the examples"))
        done, left = (done, left) if least else (None, source.batches)  # all start anew
    repeats = source.repeats_of(len(left))
    with source.failing_together():
        if left:
            procedure = Procedure(
                plan.place, source.compensated, repeats, source.progress, title, plan.halved, source.any_needs
            )
            done = _collect_batches(source, config, procedure, left, done, partial, file)
            if file is not None:
                save_partial(done, file)  # a later pass may be interrupted too
    if source.processes is not None:
        return all_reduce_statistics(done, source.processes)
    if done is None:
        raise ValueError("the data loader gave no batch: there is nothing to estimate from")
    return done


def _collect_batches(
    source: CalibrationSource,
    config: CollectionConfig,
    procedure: Procedure,
    batches: Sequence[Mapping[str, Any]],
    start: Statistics | None,
    partial: Partial | None,
    file: Path | None,
) -> Statistics:
    """The statistics of this process's batches, added to those that it had at the start."""
    with adapters_disabled(source.base):
        one_pass = OnePass(source.objective, source.layers, config, procedure, identify_model(source.base))
        return one_pass.run(batches, start, partial.checkpoint.saving(file) if partial and file else None)
