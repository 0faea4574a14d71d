"""How the statistics of all layers are collected: the same plan in every process, and again after an interruption."""

from __future__ import annotations

import functools
import os

import torch

from lora_da.adapter.activation import adapters_disabled
from lora_da.config import CollectionConfig
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.checkpoint import Partial, load_plan, save_plan
from lora_da.pipeline.memory_limits import MemoryLimits, find_memory_limits, least_limits
from lora_da.pipeline.memory_plan import MemoryPlan, plan_memory
from lora_da.solver.layer import solver_bytes
from lora_da.statistics.batches.examples import cut_batch
from lora_da.statistics.layers import find_device
from lora_da.statistics.products import choose_sum_dtype
from lora_da.statistics.shared_inputs import find_shared_inputs
from lora_da.system.sizes import MemoryBudget, format_size

_DOING = "planning the collection"


def plan_collection(
    source: CalibrationSource, config: CollectionConfig, budget: MemoryBudget, partial: Partial | None = None
) -> MemoryPlan:
    """Return how the statistics are collected within a budget; the same in all processes.

    A checkpoint keeps the plan of an interrupted collection. It is taken again, or its statistics would not be found:
    how much memory is free changes from run to run.

    Raises:
        ValueError: Not even the layers of one input fit, or the budget is no size.
    """
    if partial is None:
        return _new_plan(source, config, budget)
    file = partial.find_file(source.layers, budget).with_suffix(".json")
    with source.failing_together():
        kept = load_plan(file, source.layers)
    plans = source.processes.gather_objects(kept, _DOING) if source.processes else [kept]
    if kept is not None and all(plan == kept for plan in plans):
        return kept
    plan = _new_plan(source, config, budget)
    with source.failing_together():
        save_plan(plan, file)
    return plan


def _new_plan(source: CalibrationSource, config: CollectionConfig, budget: MemoryBudget) -> MemoryPlan:
    numbers = {device: str(number) for number, device in enumerate(dict.fromkeys(_devices(source).values()))}
    devices = {name: numbers[device] for name, device in _devices(source).items()}
    limits, compensated = _agree_on_limits(source, config, budget, numbers)
    itemsize = choose_sum_dtype(*source.base.parameters()).itemsize
    plan_for = functools.partial(plan_memory, source.shapes, compensated=compensated, itemsize=itemsize)
    try:  # as if no layers shared their input: what is needed at most
        alone = {name: name for name in source.layers}
        plan = plan_for(alone, devices, limits, config)
        if len(plan.passes) == 1 and plan.place == "device":
            return plan
    except ValueError:
        pass
    return plan_for(_input_groups(source), devices, limits, config)


def _devices(source: CalibrationSource) -> dict[str, torch.device]:
    return {name: find_device(layer) for name, layer in source.layers.items()}


def _agree_on_limits(
    source: CalibrationSource, config: CollectionConfig, budget: MemoryBudget, numbers: dict[torch.device, str]
) -> tuple[MemoryLimits, bool]:
    """What the sums may take in every process, and whether those of any process carry their rounding errors along."""
    local = 1 if source.processes is None else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    full = config.output_factor == "full"
    solver = max(solver_bytes(*shape, full=full) for shape in source.shapes.values())
    limits, compensated = find_memory_limits(numbers, budget, processes=local, solver=solver), source.compensated
    if source.processes is not None:
        everyone = source.processes.gather_objects((limits, compensated), _DOING)
        limits, compensated = least_limits([own for own, _ in everyone]), any(own for _, own in everyone)
    if sum(limits.devices.values()) == 0:
        raise ValueError(
            f"no memory is free for the statistics beside the solution of the largest layer, {format_size(solver)}: "
            "give memory_budget a size to try it all the same, or leave the widest layers out of target_modules"
        )
    return limits, compensated


def _input_groups(source: CalibrationSource) -> dict[str, str]:
    """Which layers share their input, as one process's first example shows it."""
    groups = None
    if source.batches:
        with adapters_disabled(source.base):
            try:
                (example,) = cut_batch(source.batches[0], 1, source.rows_per_example)
            except ValueError:  # it can't be cut, so all of it is run
                example = dict(source.batches[0])
            groups = find_shared_inputs(source.objective, source.layers, example)
    if source.processes is not None:
        groups = next(filter(None, source.processes.gather_objects(groups, _DOING)), None)
    if groups is None:
        raise ValueError("there is no example: there is nothing to estimate from")
    return groups
