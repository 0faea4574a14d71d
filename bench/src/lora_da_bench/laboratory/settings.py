"""The settings of a laboratory, which all runs of one folder share."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_da.system.json_file import read_object
from lora_da.system.provenance import describe_command, describe_machine
from lora_da_bench.experiment.files import write_atomically
from lora_da_bench.running.provenance import find_versions

SETTINGS = "laboratory.json"
RECORDS = "runs.jsonl"

_COMPARED = ("python", "torch", "peft", "transformers")  # versions that may move a loss


@dataclass(frozen=True)
class Settings:
    """What is the same for all runs of a folder.

    Attributes:
        steps: Optimiser steps of a run.
        batch_size: Blocks a step.
        length: Tokens a block.
        calibration_blocks: Blocks that statistics are taken from.
        selection_blocks: Blocks that select the learning rate.
        test_blocks: Blocks that are reported.
        alpha_per_rank: LoRA's scaling s, alpha/r.
    """

    steps: int = 150
    batch_size: int = 8
    length: int = 128
    calibration_blocks: int = 64
    selection_blocks: int = 64
    test_blocks: int = 128
    alpha_per_rank: int = 2

    @property
    def training_blocks(self) -> int:
        """How many blocks one run reads."""
        return self.steps * self.batch_size


def fix_settings(folder: Path, settings: Settings, model: str, domains: Mapping[str, str]) -> None:
    """Write down the settings of a folder's first run; later ones must be the same.

    Args:
        folder: Of the runs.
        settings: Of the runs.
        model: The fingerprint of the model's weights.
        domains: The fingerprint of each domain's blocks; a later call may bring others.

    Raises:
        ValueError: Other settings, another model, other text or other versions made what is there.
    """
    path = folder / SETTINGS
    mine = _flat(settings, model, find_versions())
    before: dict[str, Any] = read_object(path, "give another --out") if path.is_file() else {}
    if before:
        if not all(isinstance(before.get(part), dict) for part in ("settings", "domains")):
            raise ValueError(f"{path} is damaged: it lacks the settings or the domains; give another --out")
        theirs = before["settings"] | {f"domain {name}": value for name, value in before["domains"].items()}
        both = mine | {f"domain {name}": value for name, value in domains.items() if name in before["domains"]}
        changed = [
            f"{name} ({theirs.get(name)}, now {value})" for name, value in both.items() if theirs.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"{folder} holds runs of other settings: {', '.join(changed)}. Give the same, or another --out"
            )
    started = before or {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": describe_machine(),
        "versions": find_versions(),
        "settings": mine,
        "domains": {},
    }
    started["domains"] |= domains
    command, commands = describe_command(), started.setdefault("commands", [])
    if command not in commands:
        commands.append(command)
    write_atomically(path, json.dumps(started, indent=1) + "\n")


def _flat(settings: Settings, model: str, versions: Mapping[str, str]) -> dict[str, Any]:
    return dataclasses.asdict(settings) | {"model": model} | {name: versions[name] for name in _COMPARED}
