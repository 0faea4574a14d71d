"""``lora-da compare``, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from command import call
from folders import sums_file, tiny_model_folder
from lora_da.experiments.comparison.record import load_records


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    tiny_model_folder(folder / "model")
    sums_file(folder / "train.jsonl", 40)
    sums_file(folder / "test.jsonl", 4)
    description = {
        "name": "tiny",
        "model": {"name": str(folder / "model"), "device": "cpu"},
        "task": {
            "kind": "generation",
            "train": str(folder / "train.jsonl"),
            "test": str(folder / "test.jsonl"),
            "validation_rows": 4,
            "accuracy": False,
        },
        "methods": ["lora", "lora-one"],
        "ranks": [2],
        "protocol": {"learning_rates": [1e-2], "steps": 1, "seeds": [0], "fresh_seeds": [1], "growth": 0},
        "calibration": {"examples": 4},
        "charge_init": False,
    }
    (folder / "tiny.yaml").write_text(json.dumps(description))
    return folder


def test_from_plan_to_report(root: Path, tmp_path: Path) -> None:
    command = ["compare", "--config", root / "tiny.yaml", "--results", tmp_path]
    dry = call(*command, "--dry-run")
    assert "0 runs are there, 2 are next" in dry
    assert "minutes" in dry
    assert not (tmp_path / "tiny" / "runs").exists()
    assert "to do" in call(*command, "--list")
    output = call(*command)
    assert "report.md" in output
    assert len(load_records(tmp_path / "tiny" / "runs")) == 4
    assert call(*command, "--list").count("success") == 4
    assert "4 runs are there, 0 are next" in call(*command)

    report = tmp_path / "tiny" / "report.md"
    report.unlink()
    call(*command, "--report-only")
    assert "lora-one" in report.read_text()


def test_flags_describe_the_common_case(root: Path, tmp_path: Path) -> None:
    listed = call(
        "compare", "--model", root / "model", "--train", root / "train.jsonl", "--test", root / "test.jsonl",
        "--methods", "pissa", "--rank", 2, "--results", tmp_path, "--list",
    )  # fmt: skip
    assert listed.count("sweep-lora-r2") == listed.count("sweep-pissa-r2") == 5 * 3


def test_methods_are_listed() -> None:
    listed = call("compare", "--list")
    assert "lora-da" in listed
    assert "milora" in listed
    assert "+frozen-a" in listed


def test_wrong_use_is_told(root: Path) -> None:
    with pytest.raises((typer.BadParameter, AssertionError), match="either --config, or --model"):
        call("compare")
    with pytest.raises((ValueError, AssertionError), match="none of the experiment's methods"):
        call("compare", "--config", root / "tiny.yaml", "--only", "pissa")
