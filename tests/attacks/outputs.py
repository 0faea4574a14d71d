"""Outputs that are inputs, contain them or lie within them, through links too: refused, and every input as before."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from attacks.rounds import main
from command import call, sft_options
from lora_da.workflows.sft.arguments import parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune


def _inputs(folder: Path) -> dict[str, Path]:
    """A model that would do for a check of paths, data, statistics, an adapter, and a finished run with checkpoints."""
    model, run = folder / "in" / "model", folder / "in" / "run"
    (run / "checkpoint-2").mkdir(parents=True)
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    for place in (run, run / "checkpoint-2"):
        (place / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    data, statistics = folder / "in" / "data.jsonl", folder / "in" / "sums.safetensors"
    data.write_text(json.dumps({"text": "a"}) + "\n")
    for name in ("sums", "more"):
        save_file({name: torch.ones(1)}, folder / "in" / f"{name}.safetensors", {"lora-da-statistics": "{}"})
    return {"model": model, "data": data, "statistics": statistics, "run": run}


def _digest(folder: Path) -> str:
    parts = sorted((str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _disguised(path: Path, folder: Path, chance: random.Random) -> Path:
    """The path itself, through a link, in a roundabout way, above it or below it."""
    kind = chance.randrange(6)
    if kind == 0:
        link = folder / f"link{chance.randrange(10**6)}"
        link.symlink_to(path)
        return link
    if kind == 1:
        link = folder / f"link{chance.randrange(10**6)}"
        link.symlink_to(path.parent)
        return link / path.name
    if kind == 2:
        return path.parent / ".." / path.parent.name / path.name
    if kind == 3:
        return path.parent
    if kind == 4 and path.is_dir() and path.name != "run":  # which is none of the inputs of what is given it
        return path / "below"
    if kind == 5 and path.is_file():
        os.link(path, folder / "hard")
        return folder / "hard"
    return path


def attack(number: int) -> list[str]:
    """Give one command an output that would destroy one of its inputs."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = _inputs(folder)
        model, data, statistics, run = (given[part] for part in ("model", "data", "statistics", "run"))
        before = _digest(folder / "in")
        commands: dict[str, Callable[[], object]] = {
            f"init --output {part}": lambda part=part: call(  # type: ignore[misc]
                "init", model, "--data", data, "--output", _disguised(given[part], folder, chance), "--overwrite"
            )
            for part in given
            if part != "statistics"
        }
        commands |= {
            f"init --save-statistics {part}": lambda part=part: call(  # type: ignore[misc]
                *("init", model, "--data", data, "--output", folder / "new", "--overwrite"),
                *("--save-statistics", _disguised(given[part], folder, chance)),
            )
            for part in ("model", "data")
        }
        commands["init --statistics"] = lambda: call(
            *("init", model, "--statistics", statistics, "--overwrite"),
            *("--output", _disguised(statistics, folder, chance)),
        )
        commands["merge-statistics"] = lambda: call(
            *("merge-statistics", statistics, folder / "in" / "more.safetensors", "--overwrite"),
            *("--output", _disguised(statistics, folder, chance)),
        )
        for part in ("model", "data"):
            commands[f"sft --output_dir {part}"] = lambda part=part: fine_tune(  # type: ignore[misc]
                parse_arguments(sft_options(str(model), str(data), _disguised(given[part], folder, chance)))
            )
        commands["init over a run"] = lambda: call("init", model, "--data", data, "--output", run, "--overwrite")
        what, command = list(commands.items())[number % len(commands)]
        try:
            command()
            return [f"{what}: it was not refused"]
        except (ValueError, OSError) as error:
            told = str(folder) in str(error) and re.search(
                "would be (lost|replaced)|is not replaced|holds a run", str(error)
            )
            faults = [] if told else [f"{what}: it ended for another reason: {error}"]
        if _digest(folder / "in") != before:
            faults.append(f"{what}: an input is not as before")
    return faults


if __name__ == "__main__":
    main(attack, 200)
