"""Where a result comes from: the command, versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("lora-da", "torch", "peft", "transformers", "safetensors")


def describe_command() -> str:
    """Return the command that started this process, without the folder of an installed program."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        started = ["python", "-m", program.parent.name]
    else:
        started = ["python", sys.argv[0]] if program.suffix == ".py" else [program.name]
    return shlex.join([*started, *sys.argv[1:]])


def find_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_machine() -> str:
    """Return the machine in words, without its name."""
    cores = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{torch.cuda.get_device_name()}, {cores}" if torch.cuda.is_available() else cores
