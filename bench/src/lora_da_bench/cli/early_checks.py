"""What commands refuse before they import torch and the like, which takes seconds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lora_da.system.extras import need
from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.names import check_names

_MODULES = ("transformers", "datasets", "trl", "sklearn", "scipy", "matplotlib", "math_verify")


def check_early(experiment: Experiment, folder: Path, only: Collection[str], *, ray: bool) -> None:
    """Refuse an experiment that could not be carried out, as far as names tell; see :func:`check_names`."""
    need("lora-da-bench compare", *_MODULES, *(["ray"] if ray else []), distribution="lora-da-bench")
    check_names(experiment, folder, only)
