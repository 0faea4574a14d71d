"""The calls that join the stages: statistics from a model, and a LoRA adapter from statistics."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from lora_da.adapter.layers import (
    adapted_layers,
    adapters_disabled,
    base_model_of,
    identity_of,
    linear_layers,
    only_adapter_active,
    unwrapped,
)
from lora_da.adapter.write import write_factors
from lora_da.config import LoraDAConfig
from lora_da.distributed.examples import own_batches, repeats_needed
from lora_da.distributed.processes import Processes, current_processes
from lora_da.distributed.reduction import reduced
from lora_da.distributed.solution import solved_together
from lora_da.notices import POPULATION_UNKNOWN, notices_of
from lora_da.report import InitializationReport, LayerReport
from lora_da.solver.scale import scaled_factors
from lora_da.solver.solve import check_population
from lora_da.solving import check_statistics, solve_layers
from lora_da.statistics.batches import batch_size, dataset_length
from lora_da.statistics.collect import calibration_loss, collect, device_of
from lora_da.statistics.config import CollectionConfig
from lora_da.statistics.losses import ExampleLoss
from lora_da.statistics.sums import Statistics

Batches = Iterable[Mapping[str, Any]]


def collect_statistics(
    model: nn.Module,
    dataloader: Batches,
    collection_config: CollectionConfig | None = None,
    *,
    max_examples: int = 256,
    adapter_name: str = "default",
    example_loss: ExampleLoss | None = None,
    progress: bool = True,
) -> Statistics:
    """Collect the sums that LoRA-DA needs, by one forward and one backward pass with every parameter frozen.

    The model is left exactly as it was, and so are all random states.

    Args:
        model: A PEFT model, whose adapted layers are served with all adapters disabled; or a plain model, all of whose
            linear layers but the output head are.
        dataloader: Any iterable of mappings with ``labels`` and the model's inputs, such as a torch ``DataLoader``.
        collection_config: What to collect.
        max_examples: How many examples to read; the paper takes 256.
        adapter_name: The adapter whose layers are served.
        example_loss: A function of (model output, batch) that returns each example's loss in nats, (B,), for models
            whose loss is not known: language models and classifiers of transformers need none.
        progress: Whether to show a progress bar.

    Returns:
        The sums, which can be saved, loaded, added and solved for any rank.

    Raises:
        ValueError: The data or the adapter can't be used; the message says what is wrong and where.
        TypeError: A batch is no mapping.
    """
    model = unwrapped(model)
    base = base_model_of(model)
    if base is getattr(model, "_orig_mod", model) and not hasattr(model, "peft_config"):
        layers = linear_layers(base)
        if not layers:
            raise ValueError(f"{type(base).__name__} has no linear layer")
    else:
        layers = {name: layer.base for name, layer in adapted_layers(model, adapter_name)[0].items()}
    processes = current_processes()
    progress = progress and (processes is None or processes.rank == 0)
    batches = own_batches(dataloader, max_examples, processes)
    statistics = _collected(
        model, layers, batches, collection_config or CollectionConfig(), processes, example_loss, progress=progress
    )
    return dataclasses.replace(statistics, population_size=dataset_length(dataloader))


def _collected(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Sequence[Mapping[str, Any]],
    config: CollectionConfig,
    processes: Processes | None,
    example_loss: ExampleLoss | None,
    *,
    progress: bool,
) -> Statistics:
    """The sums over this process's batches or, in a job of several, over all processes' batches."""
    base = base_model_of(model)
    repeats = _repeats(base, batches, processes)

    def own() -> Statistics:
        with adapters_disabled(base):
            return collect(
                base,
                layers,
                batches,
                config,
                max_examples=max(1, sum(map(batch_size, batches))),
                identity=identity_of(base),
                example_loss=example_loss,
                progress=progress,
                repeats=repeats,
                entry=_entry(model, base),
            )

    if processes is None:
        return own()
    mine, error = None, None
    try:
        mine = own() if batches else None
    except Exception as raised:  # raised again, in every process
        error = raised
    processes.together(error, "collecting statistics")
    return reduced(mine, processes)


def _is_sharded(base: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in base.parameters())


def _repeats(base: nn.Module, batches: Sequence[Any], processes: Processes | None) -> int:
    return repeats_needed(len(batches), processes) if processes is not None and _is_sharded(base) else 0


def _entry(model: nn.Module, base: nn.Module) -> nn.Module:
    """What is called: sharded weights are gathered by the outermost module alone."""
    return model if _is_sharded(base) else base


def initialize_lora_da_weights(
    peft_model: nn.Module,
    dataloader: Batches | None = None,
    config: LoraDAConfig | None = None,
    *,
    statistics: Statistics | None = None,
    adapter_name: str = "default",
    max_examples: int = 256,
    measure_loss: bool = True,
    example_loss: ExampleLoss | None = None,
    progress: bool = True,
) -> InitializationReport:
    """Initialise a LoRA adapter from data, in place. The base weights are not touched.

    Rank and scaling come from each layer, so ``rank_pattern``, ``alpha_pattern`` and rslora work.

    Args:
        peft_model: A model with a fresh LoRA adapter (``init_lora_weights=True``).
        dataloader: The calibration examples, see :func:`collect_statistics`. Beside ``statistics`` it serves only to
            measure the loss.
        config: The settings; the default is the best that has been measured.
        statistics: Statistics collected before, perhaps on another copy of the model (in another precision).
        adapter_name: Which adapter.
        max_examples: How many examples to read.
        measure_loss: Also measure the loss with the new adapter, by one forward pass over the same examples.
        example_loss: See :func:`collect_statistics`.
        progress: Whether to show progress bars.

    Returns:
        What was done, layer by layer.

    Raises:
        ValueError: The adapter, the data, the statistics or the settings can't be used; the adapter is then unchanged.
    """
    config = config or LoraDAConfig()
    peft_model = unwrapped(peft_model)
    layers, kept_default = adapted_layers(peft_model, adapter_name)
    base = base_model_of(peft_model)
    device = next(iter(layers.values())).A.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds: dict[str, float] = {}
    notices: list[str] = []

    started = time.perf_counter()
    processes = current_processes()
    progress = progress and (processes is None or processes.rank == 0)
    batches: list[dict[str, Any]] = []
    loss_before = None
    if dataloader is not None and (statistics is None or measure_loss):
        batches = own_batches(dataloader, max_examples, processes)
    if statistics is None:
        if dataloader is None:
            raise ValueError("give a data loader or statistics: there is nothing to initialise from")
        population = config.population_size or dataset_length(dataloader)
        check_population(config, population)
        bases = {name: layer.base for name, layer in layers.items()}
        statistics = _collected(
            peft_model, bases, batches, config.collection, processes, example_loss, progress=progress
        )
        loss_before = statistics.loss_sum / statistics.examples
        seconds["statistics"] = time.perf_counter() - started
    else:
        population = config.population_size or statistics.population_size
        check_population(config, population)
    check_statistics(statistics, config, layers, identity_of(base))

    started = time.perf_counter()
    config = dataclasses.replace(config, population_size=population)
    ranks = {name: layer.rank for name, layer in layers.items()}
    if processes is None:
        inits, unsolved = solve_layers(statistics, ranks, config, progress=progress)
    else:
        inits, unsolved = solved_together(statistics, ranks, config, processes, progress=progress)
    kept_default |= unsolved
    if not inits:
        raise ValueError(f"no layer could be initialised; the first reason: {next(iter(kept_default.values()))}")
    if any(bool(layers[name].B.any()) for name in inits):
        notices.append("lora_B was not zero: the adapter had been trained or initialised before, and is overwritten")
    factors = {
        name: scaled_factors(
            init, scaling=layers[name].scaling, init_scale=config.init_scale, stable_gamma=config.stable_gamma
        )
        for name, init in inits.items()
    }
    write_factors(layers, factors)
    seconds["solve"] = time.perf_counter() - started

    loss_after = None
    if measure_loss and dataloader is not None:
        started = time.perf_counter()
        measure = functools.partial(
            _mean_loss, peft_model, batches, statistics.config, processes, example_loss, progress=progress
        )
        if loss_before is None:
            with adapters_disabled(base):
                loss_before = measure()
        with only_adapter_active(base, adapter_name):
            loss_after = measure()
        seconds["loss"] = time.perf_counter() - started
    reports = {
        name: LayerReport.of(init, tokens=statistics.tokens[name], scaling=layers[name].scaling)
        for name, init in inits.items()
    }
    notices += notices_of(reports, kept_default, loss_before, loss_after)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    if population is None and config.variance_weight:
        notices.append(POPULATION_UNKNOWN)  # no warning, since it hardly matters
    return InitializationReport(
        layers=reports,
        kept_default=kept_default,
        examples=statistics.examples,
        population_size=population,
        loss_before=loss_before,
        loss_after=loss_after,
        seconds=seconds,
        peak_memory_bytes=_peak_memory(device),
        batch_dependent=statistics.batch_dependent,
        notices=tuple(notices),
        config=config,
    )


def _mean_loss(
    model: nn.Module,
    batches: Sequence[Mapping[str, Any]],
    config: CollectionConfig,
    processes: Processes | None,
    example_loss: ExampleLoss | None,
    *,
    progress: bool,
) -> float:
    """The mean loss of the examples of all processes, with adapters as they are."""
    base = base_model_of(model)
    total, count = calibration_loss(
        base,
        batches,
        config,
        device_of(base),
        example_loss,
        progress=progress,
        repeats=_repeats(base, batches, processes),
        entry=_entry(model, base),
    )
    if processes is not None:
        parts = processes.gathered((total, count), "measuring the loss")
        total, count = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return total / count


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
