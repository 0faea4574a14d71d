"""The description of a comparison as it was fixed before the first result, in the comparison's folder."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from lora_da.system.files import write_text
from lora_da_bench.experiment.experiment import Experiment, experiment_from

_FILE = "experiment.json"


def keep_description(experiment: Experiment, folder: Path) -> None:
    """Write the description on the first call; afterwards it may gain methods, with a date.

    Raises:
        ValueError: The folder holds another experiment.
    """
    check_description(experiment, folder)
    kept = _kept(folder)
    now = time.strftime("%Y-%m-%d")
    if kept is None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"fixed": now, "methods_added": []}
    elif added := [name for name in experiment.methods if name not in kept["experiment"]["methods"]]:
        kept["methods_added"].append({"date": now, "methods": added})
    else:
        return
    write_text(folder / _FILE, json.dumps(kept | {"experiment": _plain(experiment)}, indent=1) + "\n", overwrite=True)


def check_description(experiment: Experiment, folder: Path) -> None:
    """Check that the folder holds no other experiment, nor one with methods that this one lacks.

    Raises:
        ValueError: It does; the message says what differs.
    """
    kept = _kept(folder)
    if kept is None:
        return
    # Read anew: keys that have been added since have their defaults.
    before = experiment_from(kept["experiment"])
    mine, theirs = _entries(_plain(experiment)), _entries(_plain(before))
    changed = sorted(
        name for name in mine.keys() | theirs.keys() if name != "methods" and mine.get(name) != theirs.get(name)
    )
    if set(before.methods) - set(experiment.methods):
        changed.append("methods, of which none may be taken away")
    if changed:
        raise ValueError(
            f"{folder} holds runs of another experiment: it differs in {', '.join(changed)}. What was fixed before the "
            "first result stays; give the new experiment another name"
        )


def methods_added(folder: Path) -> list[tuple[str, list[str]]]:
    """When which methods joined the experiment after it had begun."""
    kept = _kept(folder)
    return [(entry["date"], entry["methods"]) for entry in kept["methods_added"]] if kept else []


def _kept(folder: Path) -> dict[str, Any] | None:
    path = folder / _FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _entries(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """All keys, of inner tables too, as ``task.options.prompt``."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= _entries(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _plain(experiment: Experiment) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(experiment)))
    return plain
