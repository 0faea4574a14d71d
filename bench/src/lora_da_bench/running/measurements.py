"""What is measured along a run: losses and, at the selected step, answers; none of it counts as training."""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback

from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.record import Items, Point, Run
from lora_da_bench.experiment.schedule import spread_measurements
from lora_da_bench.running.peak_memory import read_peak_memory, reset_peak_memory
from lora_da_bench.running.prepared_data import PreparedData
from lora_da_bench.tasks.item_losses import measure_item_losses
from lora_da_bench.tasks.task import Answer, Task

BATCH_SIZE = 16


class Measurements(TrainerCallback):
    """A trainer's callback that collects a run's figures.

    Attributes:
        curve: The losses so far.
        items: Of the test split at the selected step; empty before it and in a sweep.
        answers: To the test split at the selected step, where answers are taken.
        forgetting: The loss on unrelated text at the selected step, where it is measured.
        seconds: Spent training so far.
        peak_bytes: Of the training steps alone: measurements have batches of their own.
    """

    def __init__(
        self, run: Run, experiment: Experiment, task: Task, data: PreparedData, model: Any, tokenizer: Any
    ) -> None:
        self.curve: list[Point] = []
        self.items = Items()
        self.answers: list[Answer] = []
        self.forgetting: float | None = None
        self.seconds = 0.0
        self.peak_bytes: int | None = None
        self._run, self._task, self._data, self._model, self._tokenizer = run, task, data, model, tokenizer
        self._steps = set(spread_measurements(run.steps, experiment.protocol.evaluations))
        self._device = next(model.parameters()).device
        self._resumed = 0.0

    @property
    def diverged(self) -> bool:
        """Whether a validation loss has become infinite or not a number."""
        return not all(math.isfinite(point.validation_loss) for point in self.curve)

    def metrics(self) -> dict[str, float | int | None]:
        """The run's single figures, see :class:`RunRecord`."""
        selected = next((point for point in self.curve if point.step == self._run.selected_step), None)
        return {
            "validation_loss": self.curve[-1].validation_loss,
            "test_loss": selected.test_loss if selected else None,
            **(self._task.score(self.answers) if self.answers else {}),
            "step0_loss": self.curve[0].validation_loss,
            "forgetting": self.forgetting,
            "train_seconds": self.seconds,
            "train_peak_bytes": self.peak_bytes,
        }

    def measure(self, step: int) -> None:
        """Add a point to the curve; a sweep does not touch the test split."""
        validation = measure_item_losses(self._model, self._data.validation, BATCH_SIZE).mean
        if not math.isfinite(validation):
            self.curve.append(Point(step, self.seconds, math.inf))
            return
        test = None if self._run.stage == "sweep" else measure_item_losses(self._model, self._data.test, BATCH_SIZE)
        self.curve.append(Point(step, self.seconds, validation, None if test is None else test.mean))
        if test is None or step != self._run.selected_step:
            return
        if self._data.unrelated is not None:
            self.forgetting = measure_item_losses(self._model, self._data.unrelated, BATCH_SIZE).mean
        if self._data.questions is not None:
            self.answers = self._task.answer(self._model, self._tokenizer, self._data.questions, BATCH_SIZE)
        self.items = Items(
            [float(f"{loss:.6g}") for loss in test.losses], test.labels, [answer.correct for answer in self.answers]
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        reset_peak_memory(self._device)
        self._resumed = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock, and measure if it is time; a run that has diverged ends."""
        self.seconds += time.perf_counter() - self._resumed
        self.peak_bytes = max(filter(None, (self.peak_bytes, read_peak_memory(self._device))), default=None)
        if state.global_step in self._steps:
            self.measure(state.global_step)
            control.should_training_stop = control.should_training_stop or self.diverged
