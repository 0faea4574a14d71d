"""What a run measures, and when; whole runs are in ``test_training_run``."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from lora_da_bench.experiment.record import Run, Stage
from lora_da_bench.running import measurements as module
from lora_da_bench.running.measurements import Measurements
from lora_da_bench.tasks.item_losses import ItemLosses
from simulated_records import description

LOSSES = {"validation": [1.0, 5.0], "test": [3.0, 6.0000001]}  # of 2 and 4 labels


def measured(stage: Stage, monkeypatch: pytest.MonkeyPatch, losses: Any = LOSSES) -> Measurements:
    """A run of 20 steps that is measured at 10 and 20."""
    monkeypatch.setattr(module, "measure_item_losses", lambda _model, part, _size: ItemLosses(losses[part], [2, 4]))
    data: Any = SimpleNamespace(validation="validation", test="test", unrelated=None, questions=None)
    run = Run(stage, "lora", 8, 1e-3, 0, 20, None if stage == "sweep" else 20)
    task: Any = None
    found = Measurements(run, description(), task, data, nn.Linear(1, 1), None)
    found.measure(0)
    for step in range(1, 21):
        control = SimpleNamespace(should_training_stop=False)
        found.on_step_begin(None, None, control)
        found.on_step_end(None, SimpleNamespace(global_step=step), control)
        if control.should_training_stop:
            break
    return found


def test_a_final_run_reports_the_test_split_at_the_selected_step(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("final", monkeypatch)
    assert [(point.step, point.validation_loss) for point in found.curve] == [(0, 1.0), (10, 1.0), (20, 1.0)]
    assert [point.test_loss for point in found.curve] == pytest.approx([1.5] * 3)
    assert (found.items.loss, found.items.labels) == ([3.0, 6.0], [2, 4])
    assert found.metrics()["test_loss"] == pytest.approx(1.5)


def test_a_sweep_does_not_touch_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("sweep", monkeypatch, {"validation": LOSSES["validation"]})
    assert [point.test_loss for point in found.curve] == [None] * 3
    assert found.items.loss == []


def test_a_run_that_diverges_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("final", monkeypatch, LOSSES | {"validation": [math.nan, 1.0]})
    assert found.diverged
    assert [(point.step, point.validation_loss) for point in found.curve] == [(0, math.inf), (10, math.inf)]
