"""The calls that join the stages: statistics from a model, and a LoRA adapter from statistics."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from lora_da.adapter.layers import find_active_adapter
from lora_da.adapter.wrapping import find_base_model, unwrap_model
from lora_da.config import EXAMPLES, CollectionConfig, LoraDAConfig
from lora_da.distributed.agreement import failing_together
from lora_da.distributed.processes import current_processes
from lora_da.distributed.shares import is_divided
from lora_da.pipeline.calibration_source import find_adapter_if_any, load_batches, open_source
from lora_da.pipeline.checkpoint import Checkpoint, open_partial
from lora_da.pipeline.collection import collect_in_one_pass
from lora_da.pipeline.initialization import (
    Passes,
    Stopwatch,
    list_quiet_notices,
    open_adapter,
    report_initialization,
    solve_adapter,
    start_collection,
    write_solution,
)
from lora_da.pipeline.inventory import compare_processes
from lora_da.pipeline.label_tokens import count_label_tokens
from lora_da.pipeline.loss_measurement import Losses, measure_losses, noting_failure
from lora_da.pipeline.loss_preparation import prepare_loss
from lora_da.pipeline.step_length import search_step_length
from lora_da.pipeline.trainer import (
    calibration_batches,
    check_trainer,
    checkpointing_as_in_training,
    count_examples,
    loss_notice,
    renew_reference,
)
from lora_da.pipeline.trainer_loss import find_trainer_loss
from lora_da.report.initialization import InitializationReport
from lora_da.report.notices import (
    NO_EXAMPLES_TO_SEARCH_WITH,
    STEP_NOT_SEARCHED,
    ReportedWarning,
    list_collection_notices,
)
from lora_da.solver.layer import check_population
from lora_da.statistics.batches.examples import find_dataset_length
from lora_da.statistics.losses.example_losses import ExampleLoss, find_rows_per_example, name_loss
from lora_da.statistics.storage import hash_statistics
from lora_da.statistics.sums import Statistics
from lora_da.statistics.validity import check_sums
from lora_da.system.sizes import MemoryBudget

Batches = Iterable[Mapping[str, Any]]
Collator = Callable[[list[Any]], Mapping[str, Any]]


def collect_statistics(
    model: nn.Module,
    dataloader: Batches,
    collection_config: CollectionConfig | None = None,
    *,
    max_examples: int = EXAMPLES,
    adapter_name: str | None = None,
    example_loss: ExampleLoss | None = None,
    collate_fn: Collator | None = None,
    memory_budget: MemoryBudget = "auto",
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
) -> Statistics:
    """Collect the sums that LoRA-DA needs, by one forward and one backward pass with every parameter frozen.

    The model is left exactly as it was, and so are all random states.

    Args:
        model: A PEFT model, whose adapted layers are served with all adapters disabled; or a plain model, all of whose
            linear layers but the output head are.
        dataloader: Any iterable of mappings with ``labels`` and the model's inputs, such as a torch ``DataLoader``; or
            a data set of single examples together with its ``collate_fn``.
        collection_config: What to collect.
        max_examples: How many examples to read. A pair is one example.
        adapter_name: The adapter whose layers are served; by default the active one.
        example_loss: One of :mod:`lora_da.losses`, or a function of (model output, batch) that returns each example's
            loss in nats, (B,). Without it, the loss is the one that the model itself computes, if it is known: that of
            language models, of classifiers and of question answering.
        collate_fn: The data set's collator, which makes a batch of a list of examples.
        memory_budget: What the sums may take on the model's device: a number of bytes, a size such as "24GiB", or
            "auto", 0.7 of what is free. Beside GPUs they go to the host's memory if they don't fit.
        checkpoint: Where to save unfinished statistics every so many batches; the next call goes on from there.
        progress: Whether to show a progress bar.

    Returns:
        The sums, which can be saved, loaded, added and solved for any rank.

    Raises:
        ValueError: The data or the adapter can't be used; the message says what is wrong and where.
        TypeError: The settings are none of the collection's, the data are no iterable, or a batch is no mapping.
    """
    config, processes = collection_config or CollectionConfig(), current_processes()
    with failing_together(processes, "opening the model"):
        _check_types(model, collection_config, CollectionConfig)
        model = unwrap_model(model)
        adapted = find_adapter_if_any(model, adapter_name or find_active_adapter(model))
        dataloader = load_batches(dataloader, collate_fn)
        if checkpoint is not None:
            checkpoint.check_loss(example_loss)
    reading = _describe_reading(dataloader, max_examples, example_loss, checkpoint)
    called = {"the call": "collect_statistics", "the configuration": config} | reading
    base, keyed = find_base_model(model), checkpoint is not None
    belonging = compare_processes(base, adapted, called, processes, keyed=keyed)
    source = open_source(model, adapted, dataloader, max_examples, example_loss, progress=progress)
    source = prepare_loss(source, config.loss_reduction)
    partial = open_partial(checkpoint, source, config, belonging)
    statistics = collect_in_one_pass(source, config, memory_budget, partial)
    for notice in list_collection_notices(statistics.wholly_counted):
        warnings.warn(notice, ReportedWarning, stacklevel=2)
    return dataclasses.replace(statistics, population_size=find_dataset_length(dataloader))


def initialize_lora_da_weights(
    peft_model: nn.Module,
    dataloader: Batches | None = None,
    config: LoraDAConfig | None = None,
    *,
    statistics: Statistics | None = None,
    adapter_name: str | None = None,
    max_examples: int = EXAMPLES,
    measure_loss: bool = True,
    example_loss: ExampleLoss | None = None,
    collate_fn: Collator | None = None,
    memory_budget: MemoryBudget = "auto",
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
) -> InitializationReport:
    """Initialise a LoRA adapter from data, in place. The base weights are not touched.

    Rank and scaling come from each layer, so ``rank_pattern``, ``alpha_pattern`` and rslora work.

    Args:
        peft_model: A model with a fresh LoRA adapter (``init_lora_weights=True``).
        dataloader: The calibration examples: any iterable of mappings with ``labels`` and the model's inputs, or a data
            set of single examples together with its ``collate_fn``. Beside ``statistics`` it serves only to search the
            step's length and to measure the loss.
        config: The settings; the default is the best that has been measured.
        statistics: Statistics collected before, perhaps on another copy of the model (in another precision).
        adapter_name: Which adapter; by default the active one.
        max_examples: How many examples to read.
        measure_loss: Also measure the loss with the new adapter, by one forward pass over the same examples. Where that
            fails, or the search of the step's length does, the adapter stays, without a step in the latter case; a
            warning and a notice of the report say why.
        example_loss: One of :mod:`lora_da.losses`, or a function of (model output, batch) that returns each example's
            loss in nats, (B,); without it, the model's own loss, if it is known.
        collate_fn: The data set's collator, which makes a batch of a list of examples.
        memory_budget: What the sums may take on the model's device: bytes, a size such as "24GiB", or "auto", 0.7 of
            what is free. Beside GPUs they go to the host's memory if they don't fit; those that don't fit there either
            are collected and solved some layers at a time, with one pass over the examples each and the same result.
        checkpoint: Where to save unfinished statistics every so many batches; the next call goes on from there.
        progress: Whether to show progress bars.

    Returns:
        What was done, layer by layer.

    Raises:
        ValueError: The adapter, the data, the statistics or the settings can't be used; the adapter is then unchanged.
        TypeError: The settings are none of LoRA-DA's, or a batch is no mapping.
    """
    processes = current_processes()
    with failing_together(processes, "opening the adapter"):
        _check_types(peft_model, config, LoraDAConfig)
        if dataloader is None and statistics is None:
            raise ValueError("give a data loader or statistics: there is nothing to initialise from")
        if statistics is not None:
            check_sums(statistics)
        if checkpoint is not None:
            checkpoint.check_loss(example_loss)
        peft_model = unwrap_model(peft_model)
        adapter = open_adapter(peft_model, adapter_name or find_active_adapter(peft_model))
        dataloader = None if dataloader is None else load_batches(dataloader, collate_fn)
        config = _with_population(config or LoraDAConfig(), dataloader, statistics)
    called = {
        "the call": "initialize_lora_da_weights",
        "the configuration": config,
        "measure_loss": measure_loss,
        "the statistics": None if statistics is None or processes is None else hash_statistics(statistics),
    }
    called |= _describe_reading(dataloader, max_examples, example_loss, checkpoint)
    belonging = compare_processes(adapter.base, adapter.layers, called, processes, keyed=checkpoint is not None)
    searching = config.init_scale == "searched"
    stopwatch, source, plan, found = Stopwatch(), None, None, None
    passes: Passes = [] if statistics is None else [(adapter.layers, statistics)]
    with stopwatch.timing("statistics"):
        if dataloader is not None and (statistics is None or measure_loss or searching):
            source = open_source(peft_model, adapter.layers, dataloader, max_examples, example_loss, progress=progress)
            source = prepare_loss(
                source, (config.collection if statistics is None else statistics.config).loss_reduction
            )
            if statistics is None:
                partial = open_partial(checkpoint, source, config.collection, belonging)
                plan, passes = start_collection(source, config, memory_budget, partial)
    solution = solve_adapter(adapter, passes, config, stopwatch, progress=progress)
    with stopwatch.timing("solve"):
        steps, notices = write_solution(adapter, solution, config)
    if steps and source is not None:
        with stopwatch.timing("step"), noting_failure(notices, STEP_NOT_SEARCHED):
            found = search_step_length(adapter.layers, adapter.name, source, steps)
    losses: Losses = (solution.mean_loss if statistics is None else None, None)
    if measure_loss and source is not None:
        with stopwatch.timing("loss"):
            losses = measure_losses(source, adapter.name, notices, before=losses[0])
    if statistics is not None:
        del stopwatch.seconds["statistics"]  # they had been collected before
    length = (found.length if found else 0.0) if searching else None
    label_tokens = None if source is None else count_label_tokens(source)
    report = report_initialization(adapter, solution, config, losses, label_tokens, length, stopwatch.seconds, notices)
    for notice in report.notices:
        warnings.warn(notice, ReportedWarning, stacklevel=2)
    quiet = list_quiet_notices(plan, config) + ([NO_EXAMPLES_TO_SEARCH_WITH] if steps and source is None else [])
    return dataclasses.replace(report, notices=(*report.notices, *quiet))


def _check_types(model: Any, config: Any, kind: type) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"the first argument must be the model, a torch module, and not a {type(model).__name__}")
    if config is not None and not isinstance(config, kind):
        raise TypeError(
            f"config must be a lora_da.{kind.__name__}, not a {type(config).__name__}: the rank and the other settings "
            "of the adapter itself (LoraConfig) belong to peft.get_peft_model, from which they are read"
        )


def _describe_reading(
    dataloader: Batches | None, max_examples: int, loss: ExampleLoss | None, checkpoint: Checkpoint | None
) -> dict[str, object]:
    """What the processes of a job must have alike of what they read."""
    return {
        "the data loader": dataloader is not None,
        "a data loader that is divided": is_divided(dataloader),
        "max_examples": max_examples,
        "the loss": name_loss(loss),
        "a checkpoint": checkpoint is not None,
    }


def _with_population(config: LoraDAConfig, dataloader: Batches | None, statistics: Statistics | None) -> LoraDAConfig:
    """The settings with the population size, where it is known."""
    known = find_dataset_length(dataloader) if statistics is None else statistics.population_size
    config = dataclasses.replace(config, population_size=config.population_size or known)
    check_population(config, config.population_size)
    return config


def initialize_from_trainer(
    trainer: Any,
    config: LoraDAConfig | None = None,
    *,
    max_examples: int = EXAMPLES,
    seed: int | None = None,
    adapter_name: str | None = None,
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
        trainer: transformers' ``Trainer``, TRL's ``SFTTrainer``, ``DPOTrainer`` or ``RewardTrainer``, or one made from
            them, before its first step.
        config: The settings; the default is the best that has been measured.
        max_examples: How many examples to read; of an iterable data set the first ones.
        seed: Of the sample; by default the trainer's ``args.seed``.
        adapter_name: Which adapter; by default the active one.
        measure_loss: Also measure the loss with the new adapter, by one forward pass over the same examples.
        example_loss: One of :mod:`lora_da.losses`, or a function of (model output, batch) that returns each example's
            loss in nats, (B,). Without it, the loss is the trainer's: the model's own, that of TRL's ``DPOTrainer``
            (sigmoid) and ``RewardTrainer``, or a ``compute_loss_func`` that the examples' losses make up as their sum
            or mean; another is refused.
        memory_budget: What the sums may take on the model's device: bytes, a size such as "24GiB", or "auto", 0.7 of
            what is free. Beside GPUs they go to the host's memory if they don't fit; those that don't fit there either
            are collected and solved some layers at a time, with one pass over the examples each and the same result.
        checkpoint: Where to save unfinished statistics every so many batches; the next call goes on from there.
        progress: Whether to show progress bars.

    Returns:
        What was done, layer by layer; the same in every process of a job.

    Raises:
        ValueError: The trainer has no adapter, no training data, has trained already, or has a loss of its own of which
            the examples' can't be told apart and no ``example_loss`` is given; or as
            :func:`initialize_lora_da_weights`. The adapter is then unchanged.
    """
    with failing_together(current_processes(), "reading the trainer"):
        check_trainer(trainer)
        _check_types(trainer.model, config, LoraDAConfig)
        loss = find_trainer_loss(trainer) if example_loss is None else example_loss
        seed = trainer.args.seed if seed is None else seed
        batches = calibration_batches(trainer, max_examples, seed, find_rows_per_example(loss))
        config = config or LoraDAConfig()
        adapter_name = adapter_name or find_active_adapter(trainer.model)
    with checkpointing_as_in_training(trainer):
        report = initialize_lora_da_weights(
            trainer.model,
            batches,
            dataclasses.replace(config, population_size=config.population_size or count_examples(trainer)),
            adapter_name=adapter_name,
            max_examples=sys.maxsize,  # the batches hold as many as are wanted
            measure_loss=measure_loss,
            example_loss=loss,
            memory_budget=memory_budget,
            checkpoint=checkpoint,
            progress=progress,
        )
    notices = [renew_reference(trainer, adapter_name), loss_notice(trainer) if loss is None else None]
    for notice in filter(None, notices):
        warnings.warn(notice, ReportedWarning, stacklevel=2)
        report = dataclasses.replace(report, notices=(*report.notices, notice))
    return report
