"""One adapter from its data to its report: collect the statistics, solve, write A and B, measure, report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lora_da.adapter.factors import write_factors
from lora_da.adapter.identity import identify_model
from lora_da.adapter.layers import AdaptedLayer, find_adapted_layers, split_by_rank
from lora_da.adapter.materialisation import materialise_adapter
from lora_da.adapter.sharding import gather_parameter
from lora_da.adapter.wrapping import find_base_model
from lora_da.config import LoraDAConfig
from lora_da.distributed.processes import current_processes
from lora_da.pipeline._collection_plan import plan_collection
from lora_da.pipeline._shared_solution import solve_layers_together
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.checkpoint import Partial
from lora_da.pipeline.collection import collect_passes
from lora_da.pipeline.loss_measurement import Losses
from lora_da.pipeline.memory_plan import MemoryPlan
from lora_da.pipeline.solution import check_statistics, report_layer
from lora_da.report.initialization import InitializationReport
from lora_da.report.notices import (
    LARGEST_LOSS,
    POPULATION_UNKNOWN,
    list_collection_notices,
    list_notices,
    list_precision_notices,
)
from lora_da.solver.factors import SolverError, solver_errors
from lora_da.solver.layer_init import LayerInit
from lora_da.solver.rounding import fit_to_precision
from lora_da.solver.scale import scale_factors
from lora_da.statistics.halves import Half
from lora_da.statistics.sums import Statistics
from lora_da.system.memory import peak_memory, reset_peak_memory
from lora_da.system.sizes import MemoryBudget

Passes = Iterable[tuple[Iterable[str], Statistics]]
"""Layers, and their statistics; some layers at a time."""


@dataclass(frozen=True)
class Adapter:
    """A fresh adapter of a PEFT model.

    Attributes:
        model: The model, out of DistributedDataParallel.
        name: The adapter's name.
        layers: Its layers that can be served, by their names in the base model.
        refused: The reasons why others can't be.
    """

    model: nn.Module
    name: str
    layers: dict[str, AdaptedLayer]
    refused: dict[str, str]

    @property
    def base(self) -> nn.Module:
        """The model inside PEFT's and the compiler's wrappers."""
        return find_base_model(self.model)

    @property
    def device(self) -> torch.device:
        """The device of the first layer, on which all are solved."""
        return next(iter(self.layers.values())).A.device


def open_adapter(model: nn.Module, name: str) -> Adapter:
    """Find the adapter of a model, and let the peak of its device's memory count from now on.

    Raises:
        ValueError: See :func:`lora_da.adapter.layers.find_adapted_layers`.
    """
    materialise_adapter(model, name)
    found, refused = find_adapted_layers(model, name)
    layers, narrow = split_by_rank(found)
    adapter = Adapter(model, name, layers, refused | narrow)
    if adapter.device.type == "cuda":
        reset_peak_memory(adapter.device)
    return adapter


@dataclass
class Stopwatch:
    """The seconds that each stage has taken."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time of a ``with`` block to a stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class AdapterSolution:
    """The solutions of an adapter's layers.

    Attributes:
        layers: The solutions, by the layer's name.
        unsolved: The reasons why other layers have none.
        tokens: The number of counted tokens that reached each layer.
        collected: The statistics that they come from, without the sums.
    """

    layers: dict[str, LayerInit]
    unsolved: dict[str, str]
    tokens: dict[str, int]
    collected: Statistics

    @property
    def mean_loss(self) -> float:
        """The mean loss of the examples, without the adapter, in nats."""
        return self.collected.loss_sum / self.collected.examples


def start_collection(
    source: CalibrationSource, config: LoraDAConfig, budget: MemoryBudget, partial: Partial | None
) -> tuple[MemoryPlan, Passes]:
    """Plan a collection; its passes are collected one by one, as they are asked for."""
    plan = plan_collection(source, config.collection, budget, partial)
    return plan, collect_passes(source, config.collection, plan, partial)


def solve_adapter(
    adapter: Adapter, passes: Passes, config: LoraDAConfig, stopwatch: Stopwatch, *, progress: bool
) -> AdapterSolution:
    """Solve pass after pass, of which one's statistics are held at a time.

    Raises:
        ValueError: The statistics don't belong to the model or the settings, or no layer could be solved.
        SolverError: The statistics of a layer are unusable.
    """
    layers: dict[str, LayerInit] = {}
    unsolved: dict[str, str] = {}
    tokens: dict[str, int] = {}
    whole: dict[str, None] = {}
    remaining = iter(passes)
    while True:
        with stopwatch.timing("statistics"):
            names, statistics = next(remaining, ((), None))
        if statistics is None:
            break
        with stopwatch.timing("solve"):
            check_statistics(statistics, config, adapter.layers, identify_model(adapter.base))
            ranks = {name: adapter.layers[name].rank for name in names}
            solved, without = solve_layers_together(
                statistics, ranks, config, adapter.device, current_processes(), progress=progress
            )
        layers |= solved
        unsolved |= without
        tokens |= statistics.tokens
        whole |= dict.fromkeys(statistics.wholly_counted)
        without_sums = dataclasses.replace(statistics, gradient_sums={}, output_sums={}, input_sums={}, half=Half())
        collected = dataclasses.replace(without_sums, wholly_counted=tuple(whole))
        del statistics  # the next pass needs its memory
    if not layers:
        reason = next(iter((adapter.refused | unsolved).values()))
        raise ValueError(f"no layer could be initialised; the first reason: {reason}")
    return AdapterSolution(layers, unsolved, tokens, collected)


def write_solution(
    adapter: Adapter, solution: AdapterSolution, config: LoraDAConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """Scale the solutions and write them to the adapter's A and B; a step whose length is searched for is left out.

    Returns:
        That step's B by layer, whole (empty where there is none to search for); and what the user should know: whether
        the adapter was not fresh, or its precision hardly holds A and B.

    Raises:
        ValueError: A factor is not finite in the adapter's precision; nothing has then been written.
        SolverError: The scale of a layer can't be found.
    """
    notices = []
    if any(bool(gather_parameter(adapter.layers[name].B).any()) for name in solution.layers):
        notices.append("lora_B was not zero: the adapter had been trained or initialised before, and is overwritten")
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    moved: list[str] = []
    lossy: list[str] = []
    for name, init in solution.layers.items():
        layer = adapter.layers[name]
        A, B = _scaled(name, init, layer, config)
        A, B, power, lost = fit_to_precision(A, B, (layer.A.dtype, layer.B.dtype))
        factors[name] = A, B
        if power:
            moved.append(f"{name} (2^{power})")
        if lost > LARGEST_LOSS:
            lossy.append(f"{name} ({lost:.0%} of a direction)")
    notices += list_precision_notices(moved, lossy)
    if config.init_scale != "searched":
        write_factors(adapter.layers, factors)
        return {}, notices
    write_factors(adapter.layers, {name: (A, torch.zeros_like(B)) for name, (A, B) in factors.items()})
    return {name: B for name, (_, B) in factors.items() if bool(B.any())}, notices


def _scaled(name: str, init: LayerInit, layer: AdaptedLayer, config: LoraDAConfig) -> tuple[Tensor, Tensor]:
    try:
        with solver_errors():
            return scale_factors(
                init, scaling=layer.scaling, init_scale=config.init_scale, stable_gamma=config.stable_gamma
            )
    except SolverError as error:
        raise SolverError(f"layer {name}: {error}") from error


def report_initialization(
    adapter: Adapter,
    solution: AdapterSolution,
    config: LoraDAConfig,
    losses: Losses,
    label_tokens: float | None,
    step_length: float | None,
    seconds: dict[str, float],
    notices: Sequence[str],
) -> InitializationReport:
    """Return what was done, layer by layer, with the notices that follow from it behind those that are given."""
    layers = {
        name: report_layer(solution.layers[name], tokens=solution.tokens[name], scaling=layer.scaling)
        for name, layer in adapter.layers.items()
        if name in solution.layers
    }
    kept_default = adapter.refused | solution.unsolved
    return InitializationReport(
        layers=layers,
        kept_default=kept_default,
        examples=solution.collected.examples,
        population_size=config.population_size,
        loss_before=losses[0],
        loss_after=losses[1],
        label_tokens=label_tokens,
        step_length=step_length,
        seconds=dict(seconds),
        peak_memory_bytes=peak_memory(adapter.device),
        batch_dependent=solution.collected.batch_dependent,
        notices=(
            *notices,
            *list_collection_notices([name for name in solution.collected.wholly_counted if name in layers]),
            *list_notices(layers, kept_default, *losses, label_tokens),
        ),
        config=config,
    )


def list_quiet_notices(plan: MemoryPlan | None, config: LoraDAConfig) -> list[str]:
    """Return the notices that need no warning, since what they tell changes nothing, or hardly."""
    notices = []
    if plan is not None and (len(plan.passes) > 1 or plan.place == "host"):
        notices.append(f"the statistics took {plan}, to fit into memory")
    if config.population_size is None and config.metric == "parameters" and config.variance_weight:
        notices.append(POPULATION_UNKNOWN)
    return notices
