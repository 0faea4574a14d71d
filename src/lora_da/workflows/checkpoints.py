"""The checkpoints of a training run, of which the last may have been cut short."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lora_da.system.json_file import read_object

_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(output: Path) -> list[Path]:
    """All checkpoints in a run's folder, the last one first."""
    found = [(int(match[1]), path) for path in output.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True) if path.is_dir()]


def find_whole_checkpoint(output: Path) -> Path | None:
    """The last checkpoint that was written to its end, which its state is; None if there is none."""
    return next((path for path in list_checkpoints(output) if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's state can be read, and so can its adapter's files."""
    try:
        read_object(checkpoint / "trainer_state.json", "")
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="numpy"):  # for its head alone, without torch
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def tell_checkpoint(output: Path) -> str:
    """What a run that is stopped leaves, and how to go on, in words."""
    last = find_whole_checkpoint(output)
    if last is None:
        return "no checkpoint was saved yet (--save_steps says how often), and the same command begins anew"
    return f"{last} is kept; go on from it by the same command with --resume_from_checkpoint true"
