"""Where a result comes from: versions of packages, the library's own source, and the machine."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import lora_da
from lora_da.system.hashing import hash_file, hash_lines

_PACKAGES = ("lora-da", "torch", "peft", "transformers", "safetensors")


def find_versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def fingerprint_source() -> str:
    """Return 12 digits of a digest of the library's source, which tells apart what one version number does not."""
    package = Path(lora_da.__file__).parent
    files = sorted(package.rglob("*.py"))
    return hash_lines(f"{path.relative_to(package).as_posix()} {hash_file(path)}" for path in files)[:12]


def describe_machine() -> str:
    """Return the machine in words, without its name."""
    cores = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {platform.machine()}"
    return f"{torch.cuda.get_device_name()}, {cores}" if torch.cuda.is_available() else cores
