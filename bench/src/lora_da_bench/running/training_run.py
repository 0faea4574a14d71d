"""One run: a fresh model, a method's adapter, training, and what is measured on the way."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import set_seed

from lora_da.loading import LoadedModel, ModelSource, PreparedExamples, load_model
from lora_da_bench.experiment.description import Experiment, ModelDescription, expand_path
from lora_da_bench.experiment.files import write_atomically
from lora_da_bench.experiment.record import Items, Run, RunRecord
from lora_da_bench.methods.method import Setup
from lora_da_bench.methods.registry import get_method
from lora_da_bench.running.measurements import BATCH_SIZE, Measurements
from lora_da_bench.running.peak_memory import read_peak_memory, reset_peak_memory
from lora_da_bench.running.prepared_data import PreparedData, prepare_data
from lora_da_bench.running.progress import silence_bars
from lora_da_bench.running.provenance import describe_provenance
from lora_da_bench.running.sampling import draw_calibration, draw_training_order
from lora_da_bench.running.training import train_model
from lora_da_bench.tasks.item_losses import measure_item_losses
from lora_da_bench.tasks.registry import make_task
from lora_da_bench.tasks.task import Answer, Task


def _silent(_: str) -> None:
    """Say nothing."""


def carry_out_run(
    run: Run, experiment: Experiment, folder: Path, *, raising: bool = False, tell: Callable[[str], None] = _silent
) -> RunRecord:
    """Carry out one run. Its errors end in its record, so that the others go on, or are raised.

    What takes its time is told in words as it begins.
    Answers are kept in the experiment's folder, in ``outputs``. The record itself is not written.
    """
    started = time.perf_counter()
    try:
        with silence_bars():
            record = _carried_out(run, experiment, folder, tell)
    except Exception as error:  # out of memory, a method that refuses a model: a result of this run alone
        if raising:
            raise
        record = record_failure(run, error, describe_provenance(experiment))
    gc.collect()  # the trainer and the model refer to each other, and the next run needs their memory
    record.metrics["wall_seconds"] = time.perf_counter() - started
    record.about["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return record


def record_failure(run: Run, error: Exception, about: dict[str, Any] | None = None) -> RunRecord:
    """Make the record of a run that an error ended."""
    about = (about or {}) | {"traceback": traceback.format_exception(error)[-6:]}
    return RunRecord(run, "failed", f"{type(error).__name__}: {error}", [], Items(), {}, {}, about)


@dataclass(frozen=True)
class _Start:
    """A model with a method's adapter, and what it took to get there."""

    model: Any
    seconds: float
    peak_bytes: int | None


def _carried_out(run: Run, experiment: Experiment, folder: Path, tell: Callable[[str], None]) -> RunRecord:
    task = make_task(experiment.task.kind, experiment.task.options)
    set_seed(run.seed)  # of a classifier's fresh head
    tell("loading the model")
    base = load_base(experiment.model, task, folder)
    tell("reading and tokenising the data")
    data = prepare_data(experiment, task, base.tokenizer)
    unrelated = None if run.stage == "sweep" else data.unrelated
    forgetting_base = None if unrelated is None else measure_item_losses(base.model, unrelated, BATCH_SIZE).mean
    start = _initialise(run, experiment, task, base, data)

    batch_size = experiment.protocol.batch_size
    lengths = data.train.lengths
    order = draw_training_order(lengths, batch_size, run.steps, run.seed)
    measured = Measurements(run, experiment, task, data, start.model, base.tokenizer)
    tell(f"measuring the loss on {len(data.validation)} validation rows")
    measured.measure(0)
    tell(f"training for {run.steps} steps and measuring that loss again")
    train_model(start.model, base.tokenizer, _select(data.train, order), run, batch_size, measured)
    if measured.answers:
        _keep_answers(measured.answers, folder / "outputs" / f"{run.name}.jsonl")
    return RunRecord(
        run=run,
        status="diverged" if measured.diverged else "success",
        error=None,
        curve=measured.curve,
        items=measured.items,
        metrics=measured.metrics()
        | {
            "forgetting_base": forgetting_base,
            "init_seconds": start.seconds,
            "init_peak_bytes": start.peak_bytes,
            "trainable_parameters": sum(p.numel() for p in start.model.parameters() if p.requires_grad),
        },
        adapter=_describe_adapter(start.model),
        about=describe_provenance(experiment) | data.describe(task.max_length) | _describe_order(order, lengths),
    )


def load_base(model: ModelDescription, task: Task, folder: Path) -> LoadedModel:
    """Load the base model of a comparison and its tokenizer; a GGUF file is converted beside the folder."""
    source = ModelSource(expand_path(model.name), model.dtype, model.device, model.revision)
    return load_model(source, folder, head=task.head, num_labels=task.class_count)


def _select(examples: PreparedExamples, order: list[int]) -> PreparedExamples:
    return dataclasses.replace(examples, rows=examples.rows.select(order))


def _initialise(run: Run, experiment: Experiment, task: Task, base: LoadedModel, data: PreparedData) -> _Start:
    """Put a method's adapter on the base model; drawing and padding the calibration sample is not charged to it."""
    calibration = experiment.calibration
    sample = _select(data.train, draw_calibration(len(data.train), calibration.examples, run.seed))
    setup = Setup(
        model=base.model,
        lora=_lora_config(run, experiment, task),
        batches=list(sample.batches(calibration.batch_size)),
        population_size=min(len(data.train), run.steps * experiment.protocol.batch_size),
        seed=run.seed,
    )
    method, device = get_method(run.method), next(base.model.parameters()).device
    set_seed(run.seed)
    reset_peak_memory(device)
    started = time.perf_counter()
    model = method.initialise(setup)
    return _Start(model, time.perf_counter() - started, read_peak_memory(device))


def _lora_config(run: Run, experiment: Experiment, task: Task) -> LoraConfig:
    names = [name.strip() for name in experiment.target_modules.split(",")]
    return LoraConfig(
        r=run.rank,
        lora_alpha=experiment.alpha,
        use_rslora=experiment.rslora,
        target_modules=names[0] if names == ["all-linear"] else names,
        task_type="SEQ_CLS" if task.head == "classifier" else "CAUSAL_LM",
    )


def _describe_adapter(model: Any) -> dict[str, Any]:
    """What the report lists of the adapter as it was really made."""
    (config,) = model.peft_config.values()
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    scalings = {scaling for layer in layers for scaling in layer.scaling.values()}
    return {"alpha": config.lora_alpha, "rslora": config.use_rslora, "scaling": sorted(scalings)}


def _describe_order(order: list[int], lengths: list[int]) -> dict[str, Any]:
    return {
        "order": sha256(json.dumps(order).encode()).hexdigest(),
        "trained_on": {"examples": len(order), "tokens": sum(lengths[index] for index in order)},
    }


def _keep_answers(answers: list[Answer], path: Path) -> None:
    write_atomically(path, "".join(json.dumps(dataclasses.asdict(answer)) + "\n" for answer in answers))
