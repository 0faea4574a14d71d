"""Fine-tuning a model with transformers' Trainer, watched by its held-out loss."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from peft import PeftModel
from transformers import Trainer, TrainerCallback

from lora_da.loading.data import collator
from lora_da.report.plots import plot_losses
from lora_da.system.files import write_text
from lora_da.workflows.sources import batches_of, by_length
from lora_da.workflows.trainer import trainer_arguments
from lora_da_bench.running.evaluation import held_out_loss

HISTORY_FILE = "history.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
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

    def __post_init__(self) -> None:
        for name in ("batch_size", "evaluations", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.steps < 0 or self.epochs <= 0 or not self.learning_rate > 0:
            raise ValueError("steps must be 0 or more, epochs and the learning rate above 0")


@dataclass(frozen=True)
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
    """Measures the held-out loss every so many steps, writes it down, and asks for a checkpoint."""

    def __init__(
        self,
        held_out: list[Mapping[str, Any]],
        loss_base: float,
        history: list[tuple[int, float]],
        spent: float,
        every: int,
        file: Path,
    ) -> None:
        self.held_out, self.loss_base, self.history = held_out, loss_base, history
        self.every, self.file = every, file
        self.started = time.perf_counter() - spent

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.history.append((state.global_step, held_out_loss(model, self.held_out)))
            content = {"loss_base": self.loss_base, "held_out": self.history, "seconds": self.seconds}
            # Before the checkpoint, so that no checkpoint is without its history.
            write_text(self.file, json.dumps(content), overwrite=True)
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
    """Train the adapter and write it and its loss curve to a folder.

    Args:
        model: The model with an initialised adapter.
        tokenizer: Its tokenizer.
        train: Tokenised training examples.
        held_out: Tokenised held-out examples.
        settings: How to train.
        output: The folder: ``adapter``, ``loss.png`` and Trainer's checkpoints.
        resume: Go on from the last whole checkpoint there, if any.
    """
    batches = list(batches_of(by_length(held_out), tokenizer, settings.batch_size))
    steps = settings.steps or max(1, round(settings.epochs * len(train) / settings.batch_size))
    arguments = trainer_arguments(
        str(output / CHECKPOINTS),
        next(model.parameters()).device,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        steps=steps,
        seed=settings.seed,
        train_sampling_strategy="group_by_length",  # padding would otherwise be a third of the work
        logging_steps=1,
        save_total_limit=2,  # save_strategy is "no": the watch asks for a checkpoint whenever it has measured
        disable_tqdm=False,
    )
    checkpoint = _last_checkpoint(output / CHECKPOINTS) if resume else None
    if checkpoint is not None:
        saved = json.loads((output / HISTORY_FILE).read_text(encoding="utf-8"))
        done = int(checkpoint.name.rsplit("-", 1)[1])
        loss_base, spent = saved["loss_base"], saved["seconds"]
        history = [(step, loss) for step, loss in saved["held_out"] if step <= done]
    else:
        with model.disable_adapter():
            loss_base = held_out_loss(model, batches)
        history, spent = [(0, held_out_loss(model, batches))], 0.0

    watch = _Watch(batches, loss_base, history, spent, max(1, steps // settings.evaluations), output / HISTORY_FILE)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        data_collator=collator(tokenizer),
        callbacks=[watch],
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    logged = [(int(entry["step"]), entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record = TrainingRecord(loss_base, history, logged, watch.seconds)
    model.save_pretrained(str(output / "adapter"))
    plot_losses({"this run": record.held_out}, record.loss_base, output / "loss.png", overwrite=True)
    return record


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: Trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
