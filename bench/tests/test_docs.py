"""The example in docs/comparing.md runs, and what it says of settings is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from lora_da_bench.compare import compare
from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.record import load_records
from lora_da_bench.experiment.validation import section_of
from lora_da_bench.methods import registry
from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.registry import TASKS, make_task
from small import described

TEXT = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
WORDS = {"Literal": "text", "int": "whole number", "float": "number", "str": "text"}


def test_adding_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "ORTHOGONAL_A =" in code)
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    registry.register_method(names["ORTHOGONAL_A"])
    methods = ["lora", "orthogonal-a", "orthogonal-a+frozen-a"]
    compare(describe_experiment(described(tmp_path, methods=methods)), tmp_path / "results")
    records = load_records(tmp_path / "results" / RUNS)
    assert {record.status for record in records} == {"success"}
    parameters = {record.run.method: record.metrics["trainable_parameters"] for record in records}
    assert parameters["orthogonal-a"] == parameters["lora"]
    assert (parameters["orthogonal-a+frozen-a"] or 0) < (parameters["lora"] or 0)


def table_below(header: str) -> list[list[str]]:
    """The cells of the table that has a header."""
    lines = TEXT.splitlines()
    start = lines.index(header) + 2
    end = next(index for index in range(start, len(lines)) if not lines[index].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


def row_of(key: str, field: FieldInfo) -> list[str]:
    """A field as the documents have it: its key, type, default and meaning."""
    annotation = str(field.annotation)
    kind = next((word for name, word in WORDS.items() if name in annotation), "text")
    if annotation.startswith("tuple"):
        kind = f"list of {kind}s"
    kind = {"<class 'bool'>": "true or false", "dict[str, typing.Any]": "table"}.get(annotation, kind)
    default = "–" if field.is_required() else "none" if field.default is None else f"`{_toml(field.default)}`"
    return [f"`{key}`", kind, default, field.description or ""]


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return re.sub(r"e-0(\d)", r"e-\1", f"{value:.0e}")
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def rows_of(section: Any, prefix: str = "") -> list[list[str]]:
    rows = []
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        rows += [row_of(f"{prefix}{name}", field)] if inner is None else rows_of(inner, f"{name}.")
    return rows


def test_all_keys_of_a_description_are_documented() -> None:
    assert table_below("| key | type | default | meaning |") == rows_of(Experiment)


def test_all_options_of_tasks_are_documented() -> None:
    expected = [[kind, *row] for kind, task in TASKS.items() for row in rows_of(task)]
    assert table_below("| kind | key | type | default | meaning |") == expected


def test_the_example_of_candidates_in_a_column() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    task = tomllib.loads(text)["task"]
    assert make_task(task["kind"], task["options"]) == Choice(
        prompt="prompt", completion="completion", label="completion", choices="candidates"
    )
