"""A comparison of seconds: a tiny model, additions to learn, and its description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from folders import sums_file, tiny_model_folder

SHORT = {"learning_rates": [1e-2], "steps": 2, "seeds": [0], "fresh_seeds": [1], "evaluations": 1, "growth": 0}


def described(folder: Path, **changes: Any) -> dict[str, Any]:
    """The description; the model and the data are made on the first call for a folder.

    Args:
        folder: Where to.
        changes: Keys in place of these; of ``task`` and ``protocol`` single ones.
    """
    if not (folder / "model").exists():
        tiny_model_folder(folder / "model")
        lines = sums_file(folder / "all.jsonl", count=48).read_text().splitlines(keepends=True)
        (folder / "test.jsonl").write_text("".join(lines[::6]))
        (folder / "train.jsonl").write_text("".join(line for index, line in enumerate(lines) if index % 6))
    task = {
        "kind": "generation",
        "train": str(folder / "train.jsonl"),
        "test": str(folder / "test.jsonl"),
        "validation_rows": 8,
        "accuracy": False,
    }
    base: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": str(folder / "model"), "device": "cpu"},
        "methods": ["lora", "lora-one"],
        "ranks": [2],
        "calibration": {"examples": 4},
        "charge_init": False,
    }
    own = {"task": task | changes.pop("task", {}), "protocol": SHORT | changes.pop("protocol", {})}
    return base | own | changes


def toml_file(path: Path, content: dict[str, Any]) -> Path:
    """Write a description as TOML."""
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in content.items() if name not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path
