"""The files of a comparison and of a laboratory with bytes changed: read, or refused in words that name the file."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from attacks.readers import mutate
from attacks.rounds import main
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.fixed_description import fix_description, list_added_methods, load_fixed_description
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord, load_record
from lora_da_bench.laboratory import runs as laboratory
from lora_da_bench.laboratory.settings import SETTINGS, Settings, fix_settings


def _fixed(path: Path) -> None:
    load_fixed_description(path.parent)
    list_added_methods(path.parent)


def _settings(path: Path) -> None:
    fix_settings(path.parent, Settings(), "model", {"a": "b"})


_READERS: dict[str, Callable[[Path], object]] = {
    "experiment.json": _fixed,
    "record.json": load_record,
    SETTINGS: _settings,
    "runs.jsonl": laboratory.load_records,
}


@functools.cache
def _originals() -> dict[str, bytes]:
    task = {"kind": "generation", "train": "a", "test": "b"}
    experiment = describe_experiment({"name": "made-up", "model": {"name": "none"}, "task": task})
    run = laboratory.LaboratoryRun(1, "gsm8k", 4, "eva", False, 1e-2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fix_description(experiment, folder)
        curve = [Point(step, float(step), 1.0) for step in (0, 5, 10)]
        record = RunRecord(Run("sweep", "lora", 8, 1e-3, 0, 10), "success", None, curve, Items(), {"a": 1.0}, {}, {})
        record.save(folder).rename(folder / "record.json")
        fix_settings(folder, Settings(), "model", {"a": "b"})
        made = laboratory.LaboratoryRecord(run, "success", 1.0, 1.0, (1.0, 2.0), 1.0, "code")
        for _ in range(3):
            laboratory.append_record(folder / "runs.jsonl", made)
        return {part: (folder / part).read_bytes() for part in _READERS}


def attack(number: int) -> list[str]:
    """Read one changed file."""
    part = list(_READERS)[number % len(_READERS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / part
        path.write_bytes(mutate(_originals()[part], random.Random(number)))
        try:
            _READERS[part](path)
        except ValueError as error:
            return [] if folder in str(error) else [f"{part}: the message names no file: {error}"]
        except Exception as error:
            return [f"{part}: {type(error).__name__}: {error}"]
    return []


if __name__ == "__main__":
    main(attack, 5000)
