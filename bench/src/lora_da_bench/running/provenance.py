"""With what and where a run is made."""

from __future__ import annotations

import functools
import os
import platform
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import lora_da
import lora_da_bench
from lora_da_bench.experiment.description import Experiment

_PACKAGES = ("lora-da", "torch", "peft", "transformers", "trl", "safetensors")


def describe_provenance(experiment: Experiment) -> dict[str, Any]:
    """Describe what a record says of its making: experiment, model, machine, versions."""
    return {
        "experiment": experiment.name,
        "machine": describe_machine(),
        "versions": find_versions(),
        "model": experiment.model.name,
    }


def find_versions() -> dict[str, str]:
    """Find the versions of Python and of the packages that move results, and the fingerprint of both packages' code."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return versions | {"code": _code_fingerprint()}


def describe_machine() -> str:
    """Describe the machine in words, without its name."""
    cores = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{torch.cuda.get_device_name()}, {cores}" if torch.cuda.is_available() else cores


@functools.cache
def _code_fingerprint() -> str:
    """The first 12 digits of the SHA-256 of both packages' source: it tells apart what a version number does not."""
    digest = sha256()
    for package in (lora_da, lora_da_bench):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
