"""The examples in the documents run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from folders import sums_file, tiny_model_folder
from lora_da.experiments.comparison.compare import RUNS, compare
from lora_da.experiments.comparison.experiment import experiment_from
from lora_da.experiments.comparison.record import load_records
from lora_da.experiments.methods import registry

DOCS = Path(__file__).parents[1] / "docs"


def test_adding_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "comparing.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    registry.register(names["ORTHOGONAL_A"])
    experiment = experiment_from(
        {
            "name": "docs",
            "model": {"name": str(tiny_model_folder(tmp_path / "model")), "device": "cpu"},
            "task": {
                "kind": "generation",
                "train": str(sums_file(tmp_path / "train.jsonl", 30)),
                "test": str(sums_file(tmp_path / "test.jsonl", 4)),
                "validation_rows": 4,
                "accuracy": False,
            },
            "methods": ["lora", "orthogonal-a", "orthogonal-a+frozen-a"],
            "ranks": [2],
            "protocol": {
                "learning_rates": [1e-2],
                "steps": 1,
                "seeds": [0],
                "fresh_seeds": [1],
                "evaluations": 1,
                "growth": 0,
            },
        }
    )
    compare(experiment, tmp_path / "results")
    records = load_records(tmp_path / "results" / RUNS)
    assert {record.status for record in records} == {"success"}
    parameters = {record.run.method: record.metrics["trainable_parameters"] for record in records}
    assert parameters["orthogonal-a"] == parameters["lora"]
    assert parameters["orthogonal-a+frozen-a"] < parameters["lora"]
