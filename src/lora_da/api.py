"""The calls that join the stages: statistics from a model, and a LoRA adapter from statistics."""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lora_da.adapter.factors import write_factors
from lora_da.adapter.layers import (
    adapted_layers,
    adapters_disabled,
    base_model_of,
    identity_of,
    linear_layers,
    only_adapter_active,
    shape_of,
    unwrapped,
)
from lora_da.adapter.sharding import whole
from lora_da.config import CollectionConfig, LoraDAConfig
from lora_da.distributed.processes import current_processes
from lora_da.distributed.shares import own_batches
from lora_da.pipeline.checkpoint import Checkpoint
from lora_da.pipeline.collection import Source, collected, mean_loss, plan_collection
from lora_da.pipeline.memory_plan import gibibytes
from lora_da.pipeline.shared_solution import solved_together
from lora_da.pipeline.solution import check_statistics
from lora_da.pipeline.trainer import (
    calibration_batches,
    check_trainer,
    checkpointing_as_in_training,
    count_examples,
    loss_notice,
)
from lora_da.report.initialization import InitializationReport, LayerReport
from lora_da.report.notices import POPULATION_UNKNOWN, notices_of
from lora_da.solver.layer import LayerInit, check_population
from lora_da.solver.scale import scaled_factors
from lora_da.statistics.batches.examples import dataset_length
from lora_da.statistics.hooks.experts import Layer
from lora_da.statistics.losses.example_losses import ExampleLoss
from lora_da.statistics.sums import Statistics
from lora_da.system.memory import MemoryBudget

Batches = Iterable[Mapping[str, Any]]


def collect_statistics(
    model: nn.Module,
    dataloader: Batches,
    collection_config: CollectionConfig | None = None,
    *,
    max_examples: int = 256,
    adapter_name: str = "default",
    example_loss: ExampleLoss | None = None,
    memory_budget: MemoryBudget = "auto",
    checkpoint: Checkpoint | None = None,
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
        memory_budget: What the sums may take on the model's device: a number of bytes, a size such as "24GiB", or
            "auto", 0.7 of what is free. Beside GPUs they go to the host's memory if they don't fit.
        checkpoint: Where to save unfinished statistics every so many batches; the next call goes on from there.
        progress: Whether to show a progress bar.

    Returns:
        The sums, which can be saved, loaded, added and solved for any rank.

    Raises:
        ValueError: The data or the adapter can't be used; the message says what is wrong and where.
        TypeError: A batch is no mapping.
    """
    model = unwrapped(model)
    base = base_model_of(model)
    layers: dict[str, Layer]
    if base is getattr(model, "_orig_mod", model) and not hasattr(model, "peft_config"):
        linear = linear_layers(base)
        if not linear:
            raise ValueError(f"{type(base).__name__} has no linear layer")
        layers, shapes = dict(linear), {name: shape_of(layer) for name, layer in linear.items()}
    else:
        adapted = adapted_layers(model, adapter_name)[0]
        layers, shapes = (
            {name: layer.base for name, layer in adapted.items()},
            {name: layer.shape for name, layer in adapted.items()},
        )
    source = _source(model, layers, shapes, dataloader, max_examples, example_loss, progress=progress)
    config = collection_config or CollectionConfig()
    plan = plan_collection(source, config, memory_budget, checkpoint)
    if len(plan.passes) > 1:
        raise ValueError(
            f"the statistics of all layers together take {gibibytes(sum(plan.bytes))}, more than the memory budget: "
            f"raise it, or let initialize_lora_da_weights collect and solve them in {len(plan.passes)} passes"
        )
    ((_, statistics),) = collected(source, config, plan, checkpoint)
    return dataclasses.replace(statistics, population_size=dataset_length(dataloader))


def _source(
    model: nn.Module,
    layers: Mapping[str, Layer],
    shapes: Mapping[str, tuple[int, int]],
    dataloader: Batches,
    max_examples: int,
    example_loss: ExampleLoss | None,
    *,
    progress: bool,
) -> Source:
    processes = current_processes()
    progress = progress and (processes is None or processes.rank == 0)
    batches = own_batches(dataloader, max_examples, processes)
    return Source(model, layers, shapes, batches, processes, example_loss, progress)


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
    memory_budget: MemoryBudget = "auto",
    checkpoint: Checkpoint | None = None,
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
        memory_budget: See :func:`collect_statistics`; sums that don't fit into the host's memory either are collected
            and solved some layers at a time, with one pass over the examples each. The result is the same.
        checkpoint: See :func:`collect_statistics`.
        progress: Whether to show progress bars.

    Returns:
        What was done, layer by layer.

    Raises:
        ValueError: The adapter, the data, the statistics or the settings can't be used; the adapter is then unchanged.
    """
    if dataloader is None and statistics is None:
        raise ValueError("give a data loader or statistics: there is nothing to initialise from")
    config = config or LoraDAConfig()
    peft_model = unwrapped(peft_model)
    layers, kept_default = adapted_layers(peft_model, adapter_name)
    base = base_model_of(peft_model)
    device = next(iter(layers.values())).A.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    known = statistics.population_size if statistics else dataset_length(dataloader)
    config = dataclasses.replace(config, population_size=config.population_size or known)
    check_population(config, config.population_size)
    seconds: dict[str, float] = defaultdict(float)
    source, plan = None, None
    with _timing(seconds, "statistics"):
        if dataloader is not None and (statistics is None or measure_loss):
            bases = {name: layer.base for name, layer in layers.items()}
            shapes = {name: layer.shape for name, layer in layers.items()}
            source = _source(peft_model, bases, shapes, dataloader, max_examples, example_loss, progress=progress)
        parts: Iterator[tuple[Iterable[str], Statistics]]
        if statistics is not None:
            parts = iter([(layers, statistics)])
        else:
            assert source is not None
            plan = plan_collection(source, config.collection, memory_budget, checkpoint)
            parts = collected(source, config.collection, plan, checkpoint)

    inits: dict[str, LayerInit] = {}
    tokens: dict[str, int] = {}
    loss_before = None
    while True:
        with _timing(seconds, "statistics"):
            names, part = next(parts, ((), None))
        if part is None:
            break
        with _timing(seconds, "solve"):
            check_statistics(part, config, layers, identity_of(base))
            ranks = {name: layers[name].rank for name in names}
            solved, unsolved = solved_together(part, ranks, config, device, current_processes(), progress=progress)
        inits |= solved
        kept_default |= unsolved
        tokens |= part.tokens
        outline = dataclasses.replace(part, gradient_sums={}, output_sums={}, input_sums={})
        del part  # the next pass needs its memory
    if statistics is None:
        loss_before = outline.loss_sum / outline.examples
    else:
        del seconds["statistics"]
    if not inits:
        raise ValueError(f"no layer could be initialised; the first reason: {next(iter(kept_default.values()))}")
    notices: list[str] = []
    if any(bool(whole(layers[name].B).any()) for name in inits):
        notices.append("lora_B was not zero: the adapter had been trained or initialised before, and is overwritten")
    with _timing(seconds, "solve"):
        factors = {
            name: scaled_factors(
                init, scaling=layers[name].scaling, init_scale=config.init_scale, stable_gamma=config.stable_gamma
            )
            for name, init in inits.items()
        }
        write_factors(layers, factors)

    loss_after = None
    if measure_loss and source is not None:
        with _timing(seconds, "loss"):
            if loss_before is None:
                with adapters_disabled(base):
                    loss_before = mean_loss(source, outline.config)
            with only_adapter_active(base, adapter_name):
                loss_after = mean_loss(source, outline.config)
    reports = {
        name: LayerReport.of(inits[name], tokens=tokens[name], scaling=layer.scaling)
        for name, layer in layers.items()
        if name in inits
    }
    notices += notices_of(reports, kept_default, loss_before, loss_after)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    # Without a warning, since they change nothing, or hardly:
    if plan is not None and (len(plan.passes) > 1 or plan.place == "host"):
        notices.append(f"the statistics took {plan}, to fit into memory")
    if config.population_size is None and config.variance_weight:
        notices.append(POPULATION_UNKNOWN)
    return InitializationReport(
        layers=reports,
        kept_default=kept_default,
        examples=outline.examples,
        population_size=config.population_size,
        loss_before=loss_before,
        loss_after=loss_after,
        seconds=dict(seconds),
        peak_memory_bytes=_peak_memory(device),
        batch_dependent=outline.batch_dependent,
        notices=tuple(notices),
        config=config,
    )


def initialize_from_trainer(
    trainer: Any,
    config: LoraDAConfig | None = None,
    *,
    max_examples: int = 256,
    seed: int | None = None,
    adapter_name: str = "default",
    measure_loss: bool = True,
    example_loss: ExampleLoss | None = None,
    memory_budget: MemoryBudget = "auto",
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
) -> InitializationReport:
    """Initialise the LoRA adapter of a trainer from its own training data, in place; then call ``trainer.train()``.

    The examples are drawn at random from the training set and go through the trainer's own collator, so that tokens,
    masks and templates are those of training. Training afterwards sees the same batches in the same order, with the
    same random numbers, as it would have without the call.

    Args:
        trainer: transformers' ``Trainer``, TRL's ``SFTTrainer``, or one made from them, before its first step.
        config: The settings; the default is the best that has been measured.
        max_examples: How many examples to read; of an iterable data set the first ones.
        seed: Of the sample; by default the trainer's ``args.seed``.
        adapter_name: Which adapter.
        measure_loss: See :func:`initialize_lora_da_weights`.
        example_loss: See :func:`collect_statistics`; needed where the trainer's loss is not the model's own.
        memory_budget: See :func:`initialize_lora_da_weights`.
        checkpoint: See :func:`collect_statistics`.
        progress: Whether to show progress bars.

    Returns:
        What was done, layer by layer; the same in every process of a job.

    Raises:
        ValueError: The trainer has no adapter, no training data, has trained already, or has a loss of its own and no
            ``example_loss`` is given; or as :func:`initialize_lora_da_weights`. The adapter is then unchanged.
    """
    check_trainer(trainer, own_loss=example_loss is not None)
    batches = calibration_batches(trainer, max_examples, trainer.args.seed if seed is None else seed)
    config = config or LoraDAConfig()
    with checkpointing_as_in_training(trainer):
        report = initialize_lora_da_weights(
            trainer.model,
            batches,
            dataclasses.replace(config, population_size=config.population_size or count_examples(trainer)),
            adapter_name=adapter_name,
            max_examples=max_examples,
            measure_loss=measure_loss,
            example_loss=example_loss,
            memory_budget=memory_budget,
            checkpoint=checkpoint,
            progress=progress,
        )
    notice = None if example_loss is not None else loss_notice(trainer)
    if notice is not None:
        warnings.warn(notice, stacklevel=2)
        report = dataclasses.replace(report, notices=(*report.notices, notice))
    return report


@contextmanager
def _timing(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - started


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
