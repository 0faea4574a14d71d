"""One run: a fresh model, a method's adapter, training, and what is measured on the way."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lora_da.workflows.sources import ModelSource, by_length, calibration_sample
from lora_da.workflows.trainer import trainer_arguments
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed

from lora_da.loading.models import LoadedModel, find_minilm, find_smollm2
from lora_da.loading.rows import load_rows
from lora_da.report.provenance import describe_machine, find_versions, fingerprint_source
from lora_da.system.files import write_text
from lora_da.system.memory import peak_memory, reset_peak_memory
from lora_da_bench.experiment.experiment import Experiment, ForgettingChoice, ModelChoice, expanded
from lora_da_bench.experiment.order import training_order
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord
from lora_da_bench.experiment.schedule import measured_steps
from lora_da_bench.experiment.splits import Splits, load_splits
from lora_da_bench.methods.method import Setup
from lora_da_bench.methods.registry import get_method
from lora_da_bench.running.evaluation import item_losses
from lora_da_bench.running.held_out import BATCH_SIZE, HeldOut
from lora_da_bench.running.progress import run_bar
from lora_da_bench.running.quiet import quiet
from lora_da_bench.tasks.registry import make_task
from lora_da_bench.tasks.task import Answer, Task
from lora_da_bench.tasks.text import Text

Batches = Sequence[Mapping[str, Tensor]]
_ON_PYPI = {"smollm2": find_smollm2, "minilm": find_minilm}


def execute(run: Run, experiment: Experiment, folder: Path, *, raising: bool = False) -> RunRecord:
    """Carry out one run. Its errors end in its record, so that the others go on.

    Args:
        run: Which.
        experiment: What it is part of.
        folder: The experiment's folder; answers are kept in ``outputs`` there. The record itself is not written.
        raising: Raise errors instead, where no others would go on.
    """
    started = time.perf_counter()
    about: dict[str, Any] = {
        "experiment": experiment.name,
        "machine": describe_machine(),
        "versions": find_versions() | {"code": fingerprint_source()},
        "model": experiment.model.name,
    }
    try:
        with quiet():
            record = _executed(run, experiment, folder, about)
    except Exception as error:  # out of memory, a method that refuses a model: a result of this run alone
        if raising:
            raise
        record = failed(run, error, about)
    gc.collect()  # the trainer and the model refer to each other, and the next run needs their memory
    record.metrics["wall_seconds"] = time.perf_counter() - started
    record.about["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return record


def failed(run: Run, error: Exception, about: dict[str, Any] | None = None) -> RunRecord:
    """The record of a run that an error ended."""
    about = (about or {}) | {"traceback": traceback.format_exception(error)[-6:]}
    return RunRecord(run, "failed", f"{type(error).__name__}: {error}", [], Items(), {}, {}, about)


def _executed(run: Run, experiment: Experiment, folder: Path, about: dict[str, Any]) -> RunRecord:
    method, protocol = get_method(run.method), experiment.protocol
    task = make_task(experiment.task.kind, experiment.task.options)
    splits = load_splits(experiment.task)
    set_seed(run.seed)
    loaded = load_base(experiment.model, task, folder)
    train = task.encode(splits.train, loaded.tokenizer)
    sample = by_length(
        task.encode(calibration_sample(splits.train, experiment.calibration.examples, run.seed), loaded.tokenizer)
    )
    about |= {
        "fingerprints": splits.fingerprints,
        "rows": {"train": len(train), "validation": len(splits.validation), "test": len(splits.test)},
        "rows_removed": splits.removed,
    }
    collate = task.collator(loaded.tokenizer)
    device = next(loaded.model.parameters()).device
    lora = experiment.shape(run.rank).lora_config(task.task_type)
    setup = Setup(
        model=loaded.model,
        lora=lora,
        batches=list(DataLoader(sample, batch_size=experiment.calibration.batch_size, collate_fn=collate)),
        population_size=min(len(train), run.steps * protocol.batch_size),
        seed=run.seed,
    )
    forgetting_base = None if run.stage == "sweep" else _forgetting(experiment, loaded.model, loaded)
    set_seed(run.seed)
    init_started = time.perf_counter()
    reset_peak_memory(device)
    model = method.initialise(setup)
    init_peak = peak_memory(device)
    init_seconds = time.perf_counter() - init_started

    watch = _Watch(run, experiment, task, loaded, splits, model)
    lengths = [len(ids) for ids in train["input_ids"]]
    order = training_order(lengths, protocol.batch_size, run.steps, run.seed)
    about |= {
        "order": sha256(json.dumps(order).encode()).hexdigest(),
        "trained_on": {"examples": len(order), "tokens": sum(lengths[index] for index in order)},
        "rows_cut": {
            "train": sum(length >= task.max_length for length in lengths),
            "validation": watch.validation.cut,
            "test": watch.test_cut,
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        watch.measure(0)
        arguments = trainer_arguments(
            scratch,
            device,
            batch_size=protocol.batch_size,
            learning_rate=run.learning_rate,
            steps=run.steps,
            seed=run.seed,
            train_sampling_strategy="sequential",  # the data set holds the batches in their order
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model, args=arguments, train_dataset=train.select(order), data_collator=collate, callbacks=[watch]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    diverged = not all(math.isfinite(point.validation_loss) for point in watch.curve)
    if watch.answers:
        _keep_answers(watch.answers, folder / "outputs" / f"{run.name}.jsonl")
    selected = next((point for point in watch.curve if point.step == run.selected_step), None)
    metrics: dict[str, float | int | None] = {
        "validation_loss": watch.curve[-1].validation_loss,
        "test_loss": selected.test_loss if selected else None,
        **(task.scores(watch.answers) if watch.answers else {}),
        "step0_loss": watch.curve[0].validation_loss,
        "forgetting_base": forgetting_base,
        "forgetting": watch.forgetting,
        "init_seconds": init_seconds,
        "train_seconds": watch.seconds,
        "init_peak_bytes": init_peak,
        "train_peak_bytes": watch.peak_bytes,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    return RunRecord(
        run=run,
        status="diverged" if diverged else "success",
        error=None,
        curve=watch.curve,
        items=watch.items,
        metrics=metrics,
        adapter=_adapter_facts(model),
        about=about,
    )


class _Watch(TrainerCallback):
    """Measures losses and, at the selected step, takes answers; its own time does not count as training."""

    def __init__(
        self, run: Run, experiment: Experiment, task: Task, loaded: LoadedModel, splits: Splits, model: Any
    ) -> None:
        self.run, self.task, self.tokenizer, self.model = run, task, loaded.tokenizer, model
        self.device = next(model.parameters()).device
        self.at = set(measured_steps(run.steps, experiment.protocol.evaluations))
        self.take_answers = experiment.task.accuracy
        self.test_rows = splits.test
        self.validation = HeldOut(task, splits.validation, loaded.tokenizer)
        test = HeldOut(task, splits.test, loaded.tokenizer)  # in a sweep too, only to see that it can be read
        self.test, self.test_cut = None if run.stage == "sweep" else test, test.cut
        self.measure_forgetting: Callable[[], float | None] = lambda: _forgetting(experiment, model, loaded)
        self.forgetting: float | None = None
        self.curve: list[Point] = []
        self.items = Items()
        self.answers: list[Answer] = []
        self.seconds = 0.0
        self.resumed = 0.0
        self.peak_bytes: int | None = None
        self.progress = run_bar(run)

    def measure(self, step: int) -> None:
        validation = self.validation.losses(self.model).mean
        diverged = not math.isfinite(validation)
        test = None if diverged or self.test is None else self.test.losses(self.model)
        self.curve.append(
            Point(step, self.seconds, math.inf if diverged else validation, None if test is None else test.mean)
        )
        if test is not None and step == self.run.selected_step:
            self.forgetting = self.measure_forgetting()
            if self.take_answers:
                self.answers = self.task.answer(self.model, self.tokenizer, self.test_rows, BATCH_SIZE)
            self.items = Items(
                [float(f"{loss:.6g}") for loss in test.losses], test.labels, [answer.correct for answer in self.answers]
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        reset_peak_memory(self.device)  # of the steps alone: measurements have batches of their own
        self.resumed = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self.resumed
        self.peak_bytes = max(filter(None, (self.peak_bytes, peak_memory(self.device))), default=None)
        self.progress.update()
        if state.global_step in self.at:
            self.measure(state.global_step)
            if not math.isfinite(self.curve[-1].validation_loss):
                control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.close()


def load_base(choice: ModelChoice, task: Task, folder: Path) -> LoadedModel:
    """The base model; models known by a short name come from packages, GGUF files are converted beside ``folder``."""
    name = str(_ON_PYPI[choice.name]()) if choice.name in _ON_PYPI else expanded(choice.name)
    return ModelSource(name, choice.dtype, choice.device, choice.revision).load(
        folder, head=task.head, classes=task.class_count
    )


def _forgetting(experiment: Experiment, model: Any, loaded: LoadedModel) -> float | None:
    """Loss on unrelated text; None where none is given."""
    if experiment.forgetting is None:
        return None
    return item_losses(model, _unrelated(experiment.forgetting, loaded)).mean


def _unrelated(choice: ForgettingChoice, loaded: LoadedModel) -> Batches:
    text = Text(max_length=choice.length)
    blocks = text.encode(load_rows(expanded(choice.data), "test"), loaded.tokenizer)
    blocks = blocks.select(range(min(choice.blocks, len(blocks))))
    return list(DataLoader(blocks, batch_size=8, collate_fn=text.collator(loaded.tokenizer)))


def _adapter_facts(model: Any) -> dict[str, Any]:
    """What the report lists of the adapter as it was really made."""
    configs = getattr(model, "peft_config", None)
    if not configs:
        return {}
    config = next(iter(configs.values()))
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    scalings = {scaling for layer in layers for scaling in layer.scaling.values()}
    return {"alpha": config.lora_alpha, "rslora": config.use_rslora, "scaling": sorted(scalings)}


def _keep_answers(answers: Sequence[Answer], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(dataclasses.asdict(answer)) + "\n" for answer in answers), overwrite=True)
