"""With what and where a run is made."""

from __future__ import annotations

import functools
from hashlib import sha256
from pathlib import Path
from typing import Any

import lora_da
import lora_da.system.provenance as library
import lora_da_bench
from lora_da_bench.experiment.description import Experiment


def describe_provenance(experiment: Experiment) -> dict[str, Any]:
    """Describe what a record says of its making: experiment, model, machine, versions."""
    return {
        "experiment": experiment.name,
        "machine": library.describe_machine(),
        "versions": find_versions(),
        "model": experiment.model.name,
    }


def find_versions() -> dict[str, str]:
    """Find the versions of Python and of the packages that move results, and the fingerprint of both packages' code."""
    return library.find_versions((*library.PACKAGES, "trl")) | {"code": _code_fingerprint()}


@functools.cache
def _code_fingerprint() -> str:
    """The first 12 digits of the SHA-256 of both packages' source: it tells apart what a version number does not."""
    digest = sha256()
    for package in (lora_da, lora_da_bench):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
