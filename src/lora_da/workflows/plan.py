"""What an initialisation would read, hold and take, said beforehand: the work behind ``lora-da plan``."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass

import torch

from lora_da.adapter.layers import check_rank
from lora_da.config import LoraDAConfig
from lora_da.loading.model_source import ModelSource
from lora_da.pipeline.memory_limits import MemoryLimits, usable_share
from lora_da.pipeline.memory_plan import MemoryPlan, plan_memory
from lora_da.report.layers import kind_of
from lora_da.solver.layer import solver_bytes
from lora_da.statistics.accumulator import COMPENSATED_ABOVE
from lora_da.statistics.losses.chunked import CHUNK_ENTRIES
from lora_da.system.memory import free_bytes
from lora_da.system.sizes import MemoryBudget, format_size, parse_size
from lora_da.workflows.calibration_sample import CalibrationSample
from lora_da.workflows.model_outline import ModelOutline, model_outline
from lora_da.workflows.settings import AdapterShape, Calibration

_SURE = 0.85  # of the estimated activations: the estimate is up to that much too high


@dataclass(frozen=True)
class Workload:
    """The calibration examples.

    Attributes:
        examples: How many.
        tokens: Of all of them.
        longest: Tokens of the longest one.
        batch_size: Examples a batch.
        rows: Rows of the data set that they are drawn from, if it was read.
    """

    examples: int
    tokens: int
    longest: int
    batch_size: int
    rows: int | None = None


@dataclass(frozen=True)
class Machine:
    """What an initialisation may use.

    Attributes:
        device: The kind of the model's device, "cpu" or "cuda".
        device_bytes: Its free memory.
        host_bytes: The host's free memory; in a job of several processes, this one's part of it.
    """

    device: str
    device_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class Plan:
    """How an initialisation would go.

    Attributes:
        layers: For each kind of layer: how many, d_in, d_out.
        workload: The calibration examples.
        machine: What it was planned for.
        parameters: Of the base model.
        dtype: Their precision.
        model_bytes: Memory of the base model.
        statistics_bytes: Memory of the sums of all layers.
        activation_bytes: Memory of one batch's activations and logits.
        solver_bytes: Memory that the largest layer's solution needs.
        memory: Where the sums are kept and in how many passes, or None if that can't be.
        problem: What does not fit and what would help, or None.
        collect_operations: Floating point operations of the passes over the examples.
        solve_operations: Floating point operations of the solver, in float64.
    """

    layers: dict[str, tuple[int, int, int]]
    workload: Workload
    machine: Machine
    parameters: int
    dtype: torch.dtype
    model_bytes: int
    statistics_bytes: int
    activation_bytes: int
    solver_bytes: int
    memory: MemoryPlan | None
    problem: str | None
    collect_operations: float
    solve_operations: float

    @property
    def peak_bytes(self) -> int:
        """Memory of the model's device, or of the host where that is the same."""
        sums = max(self.memory.bytes) if self.memory is not None and self.memory.place == "device" else 0
        return self.model_bytes + sums + max(self.activation_bytes, self.solver_bytes)

    def seconds(self) -> float:
        """Roughly the time on this machine, by the speed of its matrix products."""
        collecting = self.collect_operations / _operations_per_second(self.machine.device, self.dtype)
        return collecting + self.solve_operations / _operations_per_second(self.machine.device, torch.float64)


def this_machine(device: str | None) -> Machine:
    """What is free on this machine now."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    host = free_bytes(torch.device("cpu")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Machine(chosen.type, free_bytes(chosen) if chosen.type == "cuda" else host, host)


def plan_for_sample(
    model: ModelSource,
    sample: CalibrationSample,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
) -> Plan:
    """Plan for the examples that have been read and for this machine, see :func:`plan_initialization`."""
    lengths = sample.examples.lengths
    workload = Workload(len(lengths), sum(lengths), max(lengths), calibration.batch_size, sample.row_count)
    machine = this_machine(model.device)
    return plan_initialization(model, shape, config, workload, machine, calibration.memory_budget)


def plan_initialization(
    model: ModelSource,
    shape: AdapterShape,
    config: LoraDAConfig,
    workload: Workload,
    machine: Machine,
    budget: MemoryBudget = "auto",
) -> Plan:
    """Work out from the model's configuration, not its weights, what an initialisation needs.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The budget is no size, or the rank is above every layer's input width.
    """
    batch_size = min(workload.batch_size, workload.examples)
    outline = model_outline(model, shape, batch_size, workload.longest)
    widest = max(outline.shapes, key=lambda name: outline.shapes[name][1])  # narrower ones keep PEFT's default init
    check_rank(widest, shape.usual_rank, outline.shapes[widest][1])
    logits = _logits_bytes(outline, batch_size * workload.longest)
    activations = outline.activation_bytes + logits
    full = config.collection.output_factor == "full"
    solver = max(solver_bytes(*shape, full=full) for shape in outline.shapes.values())

    compensated = -(-workload.examples // workload.batch_size) > COMPENSATED_ABOVE
    alone, problem, memory = dict.fromkeys(outline.shapes, "0"), None, None
    plan_within = functools.partial(
        plan_memory, outline.shapes, outline.input_groups, alone, config=config.collection, compensated=compensated
    )
    try:
        memory = plan_within(limits=_limits(machine, outline.model_bytes, solver, budget))
    except ValueError as error:
        problem = str(error)
    everything = memory or plan_within(limits=MemoryLimits({"0": 2**62}, None))
    return Plan(
        layers=_kinds(outline),
        workload=workload,
        machine=machine,
        parameters=outline.parameters,
        dtype=outline.dtype,
        model_bytes=outline.model_bytes,
        statistics_bytes=sum(everything.bytes),
        activation_bytes=activations,
        solver_bytes=solver,
        memory=memory,
        problem=_problem(outline, activations, solver, batch_size, machine, memory) or problem,
        collect_operations=_collect_operations(outline, workload.tokens, len(memory.passes) if memory else 1),
        solve_operations=sum(2.0 * d_in**2 * (d_in + d_out) for d_out, d_in in outline.shapes.values()),
    )


def _limits(machine: Machine, model_bytes: int, solver: int, budget: MemoryBudget) -> MemoryLimits:
    """As :func:`lora_da.system.memory.memory_limits` will find them once the model is loaded."""
    left, on_host = max(0, machine.device_bytes - model_bytes), machine.device != "cuda"
    size = usable_share(left, solver if on_host else 0) if budget == "auto" else parse_size(budget)
    host = None if on_host else usable_share(machine.host_bytes, solver if solver > left else 0)
    return MemoryLimits({"0": size}, host)


def _problem(
    outline: ModelOutline, activations: int, solver: int, batch_size: int, machine: Machine, memory: MemoryPlan | None
) -> str | None:
    """What does not fit for certain, and which option would make it fit."""
    room, where = machine.device_bytes, "the host" if machine.device == "cpu" else "the device"
    if outline.model_bytes > room:
        lower = "" if outline.dtype.itemsize <= 2 else "--dtype bfloat16 halves them; "
        if outline.model_bytes > outline.parameters:
            lower += "--dtype 4bit makes those of linear layers a quarter of bfloat16's; "
        return (
            f"the model's weights take {format_size(outline.model_bytes)}, and {where} has {format_size(room)} free: "
            f"{lower}FSDP shares them out in a script of your own (docs/cluster.md)"
        )
    left = room - outline.model_bytes
    to_solve = max(left, machine.host_bytes) if machine.device == "cuda" else left
    if solver > to_solve:
        return (
            f"solving the largest layer takes {format_size(solver)} in float64, and {format_size(to_solve)} are free: "
            "leave the widest layers out by --target-modules"
        )
    sums = max(memory.bytes) if memory is not None and memory.place == "device" else 0
    if outline.model_bytes + sums + _SURE * activations > room:
        fits = int(batch_size * (room - outline.model_bytes - sums) / activations)
        option = f"--batch-size {fits}" if fits > 0 else "shorter examples (--max-length)"
        smaller_sums = sums and outline.model_bytes + _SURE * activations <= room
        beside = f" and {format_size(sums)} of sums" if sums else ""
        return (
            f"one batch's activations take {format_size(activations)} beside the model's "
            f"{format_size(outline.model_bytes)}{beside}, and {where} has {format_size(room)} free: give {option}"
            + (" or a smaller --memory-budget" if smaller_sums else "")
        )
    return None


def _logits_bytes(outline: ModelOutline, tokens: int) -> int:
    """The logits made at once, their float32 copy, its log-softmax, and the gradients of both."""
    return min(tokens * outline.vocabulary, CHUNK_ENTRIES) * (2 * outline.dtype.itemsize + 3 * 4)


def _collect_operations(outline: ModelOutline, tokens: int, passes: int) -> float:
    """Of forward passes, of backward passes with respect to the activations alone, and of the sums.

    A backward pass stops at its pass's lowest layer, so several passes go through (passes + 1) / 2 models backward.
    """
    through = 2.0 * outline.parameters * (passes + (passes + 1) / 2)
    sums = sum(2.0 * d_out * d_in for d_out, d_in in outline.shapes.values())
    groups = set(outline.input_groups.values())
    return tokens * (through + sums + sum(2.0 * outline.shapes[name][1] ** 2 for name in groups))


def _kinds(outline: ModelOutline) -> dict[str, tuple[int, int, int]]:
    kinds: dict[str, tuple[int, int, int]] = {}
    for name, (d_out, d_in) in outline.shapes.items():
        count = kinds.get(kind_of(name), (0, 0, 0))[0]
        kinds[kind_of(name)] = (count + 1, d_in, d_out)
    return kinds


def _operations_per_second(device: str, dtype: torch.dtype) -> float:
    """What matrix products of a usual size reach on this machine, halved for everything around them."""
    size = 1024 if device == "cpu" else 8192
    matrix = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - started)
    return float(size**3 / best)
