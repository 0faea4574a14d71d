from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from folders import tiny_model_folder
from lora_da_bench.compare import compare
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.record import load_records
from lora_da_bench.running.progress import Progress, duration
from simulated_records import description, simulated


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (63, "63 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "120 minutes"),
        (7300, "2.0 hours"),
        (360000, "100.0 hours"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert say_duration(seconds) == words


def test_a_line_for_each_run_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = simulated(description())[:2]
    first.metrics["wall_seconds"] = 63.0
    failed = replace(second, status="failed", error="RuntimeError: out of paper", metrics={"wall_seconds": 1.0})
    with Progress() as progress:
        progress.expect(2)
        progress.finished(first)
        progress.finished(failed)
        progress.expect(3)
        progress.finished(first)
    loss = first.metrics["validation_loss"]
    assert capsys.readouterr().err.splitlines() == [
        f"1/2 {first.run.name}: validation loss {loss:.4f} (63 seconds)",
        f"2/2 {failed.run.name}: failed (1 second): RuntimeError: out of paper",
        f"3/5 {first.run.name}: validation loss {loss:.4f} (63 seconds)",
    ]


def test_a_bar_on_a_terminal_and_failures_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    first, second = simulated(description())[:2]
    with Progress() as progress:
        progress.expect(2)
        progress.finished(first)
        progress.finished(replace(second, status="failed", error="RuntimeError: out of paper"))
    text = terminal.getvalue()
    assert "comparison: 100%" in text
    assert "2/2" in text
    stays = [line for line in re.split(r"[\r\n]+", text) if "out of paper" in line and "comparison" not in line]
    assert len(stays) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_a_comparison_shows_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}\n#### {a + 1}"} for a in range(20)]
    for name, some in (("train", rows[:16]), ("test", rows[16:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    (tmp_path / "text.txt").write_text("Call me Ishmael. " * 40)
    experiment = describe_experiment(
        {
            "name": "tiny",
            "model": {"name": str(tiny_model_folder(tmp_path / "model")), "device": "cpu"},
            "task": {
                "kind": "generation",
                "train": str(tmp_path / "train.jsonl"),
                "test": str(tmp_path / "test.jsonl"),
                "validation_rows": 4,
                "options": {"max_new_tokens": 2},
            },
            "methods": ["lora"],
            "ranks": [2],
            "protocol": {"learning_rates": [1e-2], "steps": 2, "seeds": [0], "fresh_seeds": [10], "growth": 0},
            "calibration": {"examples": 4},
            "forgetting": {"data": str(tmp_path / "text.txt"), "blocks": 1},
        }
    )
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    compare(experiment, tmp_path / "results")
    names = [record.run.name for record in reversed(load_records(tmp_path / "results" / RUNS))]
    text = stream.getvalue()
    if terminal:
        bars = {found.strip() for found in re.findall(r"([^\r\n\x1b]+): +\d+%\|", text)}
        assert bars == {"comparison", *names}
    else:
        lines = [re.sub(r" [\d.]+ \(.*\)$", "", line) for line in text.splitlines()]
        assert lines == [f"1/1 {names[0]}: validation loss", f"2/2 {names[1]}: validation loss"]
