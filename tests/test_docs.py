"""The examples in the documents run, and what they say of settings is so."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from folders import sums_file, tiny_model_folder
from lora_da_bench.compare import RUNS, compare
from lora_da_bench.experiment import experiment as descriptions
from lora_da_bench.experiment.experiment import experiment_from
from lora_da_bench.experiment.record import load_records
from lora_da_bench.methods import registry
from lora_da_bench.report.plain import IN_WORDS
from lora_da_bench.report.report import write_report
from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.registry import make_task

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMITTED = sorted(path.parent.name for path in (ROOT / "results").glob("*/experiment.json"))


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


def table_below(header: str) -> list[list[str]]:
    """The cells of the table in comparing.md that has a header."""
    lines = (DOCS / "comparing.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(header) + 2
    end = next(index for index in range(start, len(lines)) if not lines[index].startswith("|"))
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[start:end]]


def documented(kind: Any) -> dict[str, tuple[str, Any]]:
    """Type, in words, and default of a dataclass's fields that are no tables of their own, as documents have them."""
    found: dict[str, tuple[str, Any]] = {}
    for field in dataclasses.fields(kind):
        default: Any = "–"
        if field.default is not dataclasses.MISSING:
            default = "none" if field.default is None else field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if "Choice" in str(field.type) or field.type == "Protocol":
            continue
        words = IN_WORDS["str" if field.type == "TaskKind" else str(field.type)]
        plain = list(default) if isinstance(default, tuple) else default
        found[field.name] = words.removeprefix("a "), plain
    return found


def cells_of(kind: str, default: str) -> tuple[str, Any]:
    return kind, default if default in ("–", "none") else tomllib.loads(f"value = {default}")["value"]


def test_all_keys_of_a_description_are_documented_with_their_defaults() -> None:
    parts = {
        "": descriptions.Experiment,
        "model.": descriptions.ModelChoice,
        "task.": descriptions.TaskChoice,
        "protocol.": descriptions.Protocol,
        "calibration.": descriptions.CalibrationChoice,
        "forgetting.": descriptions.ForgettingChoice,
    }
    expected = {f"{prefix}{name}": facts for prefix, kind in parts.items() for name, facts in documented(kind).items()}
    rows = table_below("| key | type | default | meaning |")
    assert {key: cells_of(kind, default) for key, kind, default, _ in rows} == expected
    assert len(rows) == len(expected)


def test_all_options_of_tasks_are_documented_with_their_defaults() -> None:
    rows = table_below("| kind | key | type | default | meaning |")
    expected = {
        (kind, name): facts
        for kind in ("generation", "choice", "classification")
        for name, facts in documented(type(make_task(kind, {}))).items()
    }
    assert {(task, key): cells_of(kind, default) for task, key, kind, default, _ in rows} == expected
    assert len(rows) == len(expected)


def test_the_example_of_candidates_in_a_column() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "comparing.md").read_text(encoding="utf-8"), re.DOTALL)
    task = tomllib.loads(text)["task"]
    assert make_task(task["kind"], task["options"]) == Choice(
        prompt="prompt", completion="completion", label="completion", choices="candidates"
    )


def test_the_plans_in_the_docs_are_the_recorded_ones() -> None:
    recorded = (ROOT / "results" / "plans" / "plans.md").read_text(encoding="utf-8")
    assert recorded in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    plans = json.loads((ROOT / "results" / "plans" / "plans.json").read_text(encoding="utf-8"))["plans"]
    first = plans[0]
    assert f"{first['sums_bytes'] / 2**30:.2f} GiB" in recorded
    assert all(plan["problem"] is None for plan in plans)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_comparisons_render(name: str, tmp_path: Path) -> None:
    folder = ROOT / "results" / name
    described = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["experiment"]
    written = write_report(load_records(folder / "runs"), experiment_from(described), tmp_path)
    assert (folder / "report.md").read_text(encoding="utf-8") == written[0].read_text(encoding="utf-8")
