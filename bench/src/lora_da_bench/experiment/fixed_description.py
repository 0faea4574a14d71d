"""The description of a comparison as it was fixed before the first result, in the comparison's folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lora_da.system.json_file import read_object
from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.files import write_atomically

_FILE = "experiment.json"
_REMEDY = "put back the file as it was: the runs beside it belong to it"


def fix_description(experiment: Experiment, folder: Path) -> None:
    """Write the description on the first call; afterwards it may gain methods, with a date.

    Raises:
        ValueError: The folder holds another experiment.
    """
    check_description(experiment, folder)
    fixed = _read(folder)
    today = time.strftime("%Y-%m-%d")
    if fixed is None:
        fixed = {"fixed": today, "methods_added": []}
    elif added := [name for name in experiment.methods if name not in fixed["experiment"]["methods"]]:
        fixed["methods_added"].append({"date": today, "methods": added})
    else:
        return
    content = fixed | {"experiment": experiment.model_dump(mode="json")}
    write_atomically(folder / _FILE, json.dumps(content, indent=1) + "\n")


def check_description(experiment: Experiment, folder: Path) -> None:
    """Check that the folder holds no other experiment, nor one with methods that this one lacks.

    Raises:
        ValueError: It does; the message says what differs.
    """
    before = load_fixed_description(folder)
    if before is None:
        return
    mine, theirs = (_entries(each.model_dump(mode="json")) for each in (experiment, before))
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


def load_fixed_description(folder: Path) -> Experiment | None:
    """Read the description that a folder's results belong to; None before the first.

    Keys that were declared since it was written have their defaults.
    """
    fixed = _read(folder)
    try:
        return None if fixed is None else describe_experiment(fixed["experiment"])
    except ValueError as error:
        raise ValueError(f"{folder / _FILE} is damaged: {str(error)[:500]}; {_REMEDY}") from error


def list_added_methods(folder: Path) -> list[tuple[str, list[str]]]:
    """List when which methods joined the experiment after it had begun."""
    fixed = _read(folder)
    return [(entry["date"], entry["methods"]) for entry in fixed["methods_added"]] if fixed else []


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / _FILE
    if not path.is_file():
        return None
    fixed = read_object(path, _REMEDY)
    added = fixed.get("methods_added")
    dated = isinstance(added, list) and all(
        isinstance(entry, dict) and {"date", "methods"} <= entry.keys() for entry in added
    )
    if not dated or not isinstance(fixed.get("experiment"), dict):
        raise ValueError(f"{path} is damaged: it lacks the experiment or methods_added; {_REMEDY}")
    return fixed


def _entries(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """All keys, of inner tables too, as ``task.options.prompt``."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= _entries(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
