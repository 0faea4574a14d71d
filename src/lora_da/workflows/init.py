"""From a model and data to an adapter folder: the work behind ``lora-da init``."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import Any

from peft import PeftModel
from transformers import set_seed

from lora_da.api import collect_statistics, initialize_lora_da_weights
from lora_da.config import LoraDAConfig
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_model
from lora_da.loading.vocabulary import check_vocabulary
from lora_da.pipeline.checkpoint import Checkpoint
from lora_da.report.initialization import InitializationReport
from lora_da.statistics.storage import save_statistics
from lora_da.system.sizes import format_size
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.calibration_sample import CalibrationSample
from lora_da.workflows.job import writing_together
from lora_da.workflows.own_ranks import adapt_with_own_ranks
from lora_da.workflows.plan import plan_for_sample
from lora_da.workflows.settings import AdapterShape, Calibration, Outputs, inputs_of


def create_adapter(
    model: ModelSource,
    sample: CalibrationSample,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    outputs: Outputs,
    *,
    checkpoint: Checkpoint | None = None,
) -> InitializationReport:
    """Load a model, initialise an adapter on it from a sample of the data, and write its folder.

    Raises:
        FileExistsError: An output is there and may not be replaced.
        ValueError: The model, a batch or the statistics don't fit into memory; found out before the model is loaded.
    """
    outputs.check(inputs_of(model, outputs.output, sample.about["data"]))
    check_memory(model, sample, shape, config, calibration, in_one_pass=_needs_statistics(shape, outputs))
    loaded = load_model(model, outputs.output)
    check_vocabulary(loaded.model, loaded.tokenizer, sample.examples.rows)
    set_seed(config.seed)  # layers that the data say nothing about keep PEFT's random A
    peft_model = shape.adapt(loaded.model)
    peft_model, report = _initialize(peft_model, sample, shape, config, calibration, outputs, checkpoint)
    with writing_together() as writes:
        if writes:
            save_adapter(
                peft_model,
                outputs.output,
                base=loaded.path,
                revision=loaded.revision,
                report=report,
                provenance=sample.about,
                overwrite=outputs.overwrite,
            )
    return report


def _initialize(
    peft_model: PeftModel,
    sample: CalibrationSample,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    outputs: Outputs,
    checkpoint: Checkpoint | None,
) -> tuple[PeftModel, InitializationReport]:
    """Initialise the adapter, by way of all layers' statistics where they are to be saved or give the ranks."""
    batches = sample.examples.batches(calibration.batch_size)
    reading: dict[str, Any] = {
        "max_examples": len(sample.examples),
        "memory_budget": calibration.memory_budget,
        "checkpoint": checkpoint,
    }
    config = dataclasses.replace(config, population_size=config.population_size or sample.row_count)
    statistics, seconds = None, {}
    if _needs_statistics(shape, outputs):
        started = time.perf_counter()
        statistics = collect_statistics(peft_model, batches, config.collection, **reading)
        statistics = dataclasses.replace(statistics, population_size=sample.row_count)
        seconds = {"statistics": time.perf_counter() - started}
        with writing_together() as writes:
            if outputs.save_statistics is not None and writes:
                save_statistics(statistics, outputs.save_statistics, overwrite=outputs.overwrite)
    if statistics is not None and shape.rank == "auto":
        peft_model = adapt_with_own_ranks(peft_model, statistics, shape, config)
    report = initialize_lora_da_weights(peft_model, batches, config, statistics=statistics, **reading)
    return peft_model, dataclasses.replace(report, seconds=seconds | report.seconds)


def _needs_statistics(shape: AdapterShape, outputs: Outputs) -> bool:
    """Whether all layers' statistics are collected before any is solved."""
    return outputs.save_statistics is not None or shape.rank == "auto"


def check_memory(
    model: ModelSource,
    sample: CalibrationSample,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    *,
    in_one_pass: bool = False,
) -> None:
    """Refuse what can't fit into memory, before the model is loaded; warn where that can't be told.

    In one pass, the sums of all layers have to be there at once, to be saved or to give the ranks.

    Raises:
        ValueError: It does not fit; the message says which option would make it fit.
    """
    try:
        plan = plan_for_sample(model, sample, shape, config, calibration)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # a model that can't run without its weights
        warnings.warn(f"how much memory this takes can't be told beforehand ({error})", stacklevel=2)
        return
    if plan.problem is not None:
        raise ValueError(f"this does not fit: {plan.problem}")
    if in_one_pass and plan.memory is not None and len(plan.memory.passes) > 1:
        raise ValueError(
            "this does not fit: statistics that are saved or give the ranks are collected in one pass, which takes "
            f"{format_size(plan.statistics_bytes)} of sums: raise --memory-budget, choose fewer --target-modules, or "
            "leave out --save-statistics and --rank auto"
        )
