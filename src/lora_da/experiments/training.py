"""Fine-tuning an adapter with transformers' Trainer, watched by held-out loss: the work behind ``lora-da train``."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from peft import PeftModel, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from lora_da.adapter.directory import save_adapter
from lora_da.config import LoraDAConfig
from lora_da.experiments.data import collator
from lora_da.experiments.evaluation import held_out_loss
from lora_da.experiments.initialization import Calibration, initialize_from_rows
from lora_da.experiments.models import LoadedModel
from lora_da.experiments.sources import AdapterShape, DataSource, ModelSource, batches_of
from lora_da.files import write_text
from lora_da.plots import plot_losses
from lora_da.report import versions

RECORD_FILE = "training.json"
_UNFINISHED = "unfinished.json"


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train: transformers' AdamW with a cosine schedule and 3 % of warm-up.

    Attributes:
        learning_rate: Its peak.
        steps: Optimiser steps; 0 stands for ``epochs``.
        epochs: Passes over the training rows, where ``steps`` is 0.
        batch_size: Examples a step.
        evaluations: How often the held-out loss is measured along the way, evenly spread.
        held_out: Rows set aside for the held-out loss, where no data set of their own is given.
        seed: Of the order of the examples and of LoRA's random matrices.
    """

    learning_rate: float = 1e-3
    steps: int = 0
    epochs: float = 1.0
    batch_size: int = 8
    evaluations: int = 5
    held_out: int = 200
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """What happened.

    Attributes:
        loss_base: Held-out loss of the untouched base model, in nats per label token.
        held_out: (step, held-out loss), from step 0 (the adapter's starting point) to the last.
        training: (step, training loss of that step's batch).
        seconds: Time spent training, the evaluations included.
    """

    loss_base: float
    held_out: list[tuple[int, float]]
    training: list[tuple[int, float]]
    seconds: float


class _Watch(TrainerCallback):
    """Measures the held-out loss every so many steps; a resumed run goes on from the saved history."""

    def __init__(self, held_out: list[Mapping[str, Any]], history: list[tuple[int, float]], every: int) -> None:
        self.held_out, self.history, self.every = held_out, history, every

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.history.append((state.global_step, held_out_loss(model, self.held_out)))
            control.should_save = True


def fine_tune(
    model: PeftModel,
    tokenizer: Any,
    train: datasets.Dataset,
    held_out: datasets.Dataset,
    settings: TrainingSettings,
    output: Path,
    *,
    resume: bool = False,
) -> TrainingRecord:
    """Train the adapter and write it, its loss curve and a record to a folder.

    Args:
        model: The model with an initialised adapter.
        tokenizer: Its tokenizer.
        train: Tokenised training examples.
        held_out: Tokenised held-out examples.
        settings: How to train.
        output: The folder: ``adapter``, ``loss.png``, ``training.json`` and Trainer's checkpoints.
        resume: Go on from the last checkpoint there, if any.
    """
    by_length = sorted(range(len(held_out)), key=lambda index: len(held_out[index]["input_ids"]))
    batches = list(batches_of(held_out.select(by_length), tokenizer, settings.batch_size))
    steps = settings.steps or max(1, round(settings.epochs * len(train) / settings.batch_size))
    device = next(model.parameters()).device
    checkpoints = output / "checkpoints"
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(0.03 * steps)),
        max_steps=steps,
        seed=settings.seed,
        train_sampling_strategy="group_by_length",  # padding would otherwise be a third of the work
        logging_steps=1,
        save_strategy="no",  # the watch asks for a checkpoint whenever it has measured
        save_total_limit=1,
        report_to="none",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        disable_tqdm=False,
    )
    checkpoint = get_last_checkpoint(str(checkpoints)) if resume and checkpoints.is_dir() else None
    if checkpoint:
        saved = json.loads((output / _UNFINISHED).read_text(encoding="utf-8"))
        done = int(checkpoint.rsplit("-", 1)[1])
        loss_base, spent = saved["loss_base"], saved["seconds"]
        history = [(step, loss) for step, loss in saved["held_out"] if step <= done]
    else:
        with model.disable_adapter():
            loss_base = held_out_loss(model, batches)
        history, spent = [(0, held_out_loss(model, batches))], 0.0

    started = time.perf_counter()
    watch = _Watch(batches, history, every=max(1, steps // settings.evaluations))
    keep = _KeepHistory(output, loss_base, history, spent, started)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        data_collator=collator(tokenizer),
        callbacks=[watch, keep],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    logged = [(int(entry["step"]), entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record = TrainingRecord(loss_base, history, logged, spent + time.perf_counter() - started)
    model.save_pretrained(str(output / "adapter"))
    plot_losses({"this run": record.held_out}, record.loss_base, output / "loss.png", overwrite=True)
    return record


class _KeepHistory(TrainerCallback):
    """Writes the held-out history down with each checkpoint, which knows nothing of it."""

    def __init__(
        self, output: Path, loss_base: float, history: list[tuple[int, float]], spent: float, started: float
    ) -> None:
        self.output, self.loss_base, self.history = output, loss_base, history
        self.spent, self.started = spent, started

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        content = {
            "loss_base": self.loss_base,
            "held_out": self.history,
            "seconds": self.spent + time.perf_counter() - self.started,
        }
        write_text(self.output / _UNFINISHED, json.dumps(content), overwrite=True)


def split_rows(rows: datasets.Dataset, held_out: int, seed: int = 0) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Set some rows aside, at most a fifth of them.

    Raises:
        ValueError: There are too few rows to do so.
    """
    count = min(held_out, len(rows) // 5)
    if count < 1:
        raise ValueError(
            f"{len(rows)} rows are too few to hold some out; give held-out data of their own (--eval-data)"
        )
    parts = rows.train_test_split(test_size=count, seed=seed)
    return parts["train"], parts["test"]


def train_adapter(
    source: ModelSource,
    data: DataSource,
    settings: TrainingSettings,
    output: Path,
    *,
    adapter: Path | None = None,
    init: str = "lora-da",
    shape: AdapterShape | None = None,
    config: LoraDAConfig | None = None,
    calibration: Calibration | None = None,
    eval_data: DataSource | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingRecord:
    """Load a model, start from an adapter folder or a fresh initialisation, and fine-tune.

    Args:
        source: The base model.
        data: The training data.
        settings: How to train.
        output: The folder for everything that comes out.
        adapter: The adapter folder to start from.
        init: Without ``adapter``: "lora" (PEFT's default) or "lora-da".
        shape: The adapter to make, without ``adapter``.
        config: LoRA-DA's settings.
        calibration: LoRA-DA's sample, drawn from the training rows alone.
        eval_data: Held-out data; by default some rows of ``data`` are set aside, the same for every seed.
        resume: Go on with an interrupted run in ``output``.
        overwrite: Replace a finished or interrupted run in ``output``.

    Raises:
        FileExistsError: ``output`` holds a finished run, or an interrupted one and neither ``resume`` nor
            ``overwrite`` is given.
    """
    if init not in ("lora", "lora-da"):
        raise ValueError(f"init must be lora or lora-da, not {init!r}")
    if output.exists() and any(output.iterdir()) and not overwrite:
        if (output / RECORD_FILE).exists():
            raise FileExistsError(f"{output} holds a finished run; choose another folder, or give --overwrite")
        if not resume:
            raise FileExistsError(f"{output} holds something, perhaps an interrupted run: --resume or --overwrite it")
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter} is no adapter folder: it has no adapter_config.json")
    rows = data.rows()
    if eval_data is None:
        rows, held_out_rows = split_rows(rows, settings.held_out)
        eval_data = data
    else:
        held_out_rows = eval_data.rows()
    loaded = source.load(output)
    set_seed(settings.seed)
    if overwrite and not resume:
        (output / RECORD_FILE).unlink(missing_ok=True)
    model, about = _with_adapter(
        loaded,
        rows,
        data,
        output,
        adapter=adapter,
        init=init,
        shape=shape or AdapterShape(),
        config=config or LoraDAConfig(),
        calibration=calibration or Calibration(seed=settings.seed),
    )
    record = fine_tune(
        model,
        loaded.tokenizer,
        data.tokenized(rows, loaded.tokenizer),
        eval_data.tokenized(held_out_rows, loaded.tokenizer),
        settings,
        output,
        resume=resume,
    )
    content = {
        "model": loaded.path,
        "start": about,
        "settings": dataclasses.asdict(settings),
        "versions": versions(),
        "rows": {"training": len(rows), "held_out": len(held_out_rows)},
        "record": dataclasses.asdict(record),
    }
    write_text(output / RECORD_FILE, json.dumps(content, indent=1) + "\n", overwrite=True)
    return record


def _with_adapter(
    loaded: LoadedModel,
    rows: datasets.Dataset,
    data: DataSource,
    output: Path,
    *,
    adapter: Path | None,
    init: str,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
) -> tuple[PeftModel, dict[str, Any]]:
    """The model with the adapter that training starts from, and what to record of it."""
    start = output / "initial_adapter"
    if adapter is None and init == "lora-da" and (start / "adapter_config.json").is_file():
        adapter = start  # an interrupted run's
    if adapter is not None:
        model = PeftModel.from_pretrained(loaded.model, adapter, is_trainable=True)
        return model, {"init": "adapter", "adapter": adapter.name}
    if init == "lora":
        return get_peft_model(loaded.model, shape.lora_config()), {"init": "lora", **dataclasses.asdict(shape)}
    model, report, about = initialize_from_rows(loaded, rows, data, shape, config, calibration)
    save_adapter(model, start, base=loaded.path, revision=loaded.revision, report=report, provenance=about)
    return model, {"init": "lora-da", **dataclasses.asdict(shape), "seconds": sum(report.seconds.values())}
