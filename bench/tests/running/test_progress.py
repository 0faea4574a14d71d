from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lora_da_bench.compare import compare
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.record import load_records
from lora_da_bench.running.progress import print_progress, say_duration
from simulated_records import description, simulated
from small import described


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


def test_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = simulated(description())[:2]
    first.metrics["wall_seconds"] = 63.0
    print_progress(first, 1, 2)
    failed = replace(second, status="failed", error="RuntimeError: out of paper", metrics={"wall_seconds": 1.0})
    print_progress(failed, 2, 2)
    loss = first.metrics["validation_loss"]
    assert capsys.readouterr().err.splitlines() == [
        f"1/2 {first.run.name}: validation loss {loss:.4f} (63 seconds)",
        f"2/2 {failed.run.name}: failed (1 second): RuntimeError: out of paper",
    ]


def test_a_comparison_shows_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("Call me Ishmael. " * 40)
    forgetting = {"data": str(tmp_path / "text.txt"), "blocks": 1}
    experiment = describe_experiment(described(tmp_path, methods=["lora"], forgetting=forgetting))
    capfd.readouterr()
    compare(experiment, tmp_path / "results")
    names = [record.run.name for record in reversed(load_records(tmp_path / "results" / RUNS))]
    shown = capfd.readouterr()
    lines = [re.sub(r" [\d.]+ \(.*\)$", "", line) for line in shown.err.splitlines()]
    assert lines == [f"1/1 {names[0]}: validation loss", f"2/2 {names[1]}: validation loss"]
    assert shown.out == ""
