"""Data-aware initialisation of LoRA adapters (LoRA-DA, arXiv 2510.24561), for PEFT."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_da.adapter.frozen_a import freeze_a
    from lora_da.api import collect_statistics, initialize_from_trainer, initialize_lora_da_weights
    from lora_da.config import CollectionConfig, LoraDAConfig
    from lora_da.pipeline.checkpoint import Checkpoint
    from lora_da.pipeline.rank_choice import choose_ranks
    from lora_da.report.initialization import InitializationReport, load_report
    from lora_da.solver.layer import solve_layer
    from lora_da.solver.layer_init import LayerInit
    from lora_da.statistics.storage import load_statistics, save_statistics
    from lora_da.statistics.sums import LayerStatistics, Statistics

__version__ = "0.2.0"

__all__ = [
    "Checkpoint",
    "CollectionConfig",
    "InitializationReport",
    "LayerInit",
    "LayerStatistics",
    "LoraDAConfig",
    "Statistics",
    "choose_ranks",
    "collect_statistics",
    "freeze_a",
    "initialize_from_trainer",
    "initialize_lora_da_weights",
    "load_report",
    "load_statistics",
    "save_statistics",
    "solve_layer",
]

# Imported at first use, so that `lora-da --help` need not wait for torch and PEFT.
_HOMES = {
    "adapter.frozen_a": ("freeze_a",),
    "api": ("collect_statistics", "initialize_from_trainer", "initialize_lora_da_weights"),
    "config": ("CollectionConfig", "LoraDAConfig"),
    "pipeline.checkpoint": ("Checkpoint",),
    "pipeline.rank_choice": ("choose_ranks",),
    "report.initialization": ("InitializationReport", "load_report"),
    "solver.layer": ("solve_layer",),
    "solver.layer_init": ("LayerInit",),
    "statistics.storage": ("load_statistics", "save_statistics"),
    "statistics.sums": ("LayerStatistics", "Statistics"),
}


def __getattr__(name: str) -> object:
    if name == "losses":
        return import_module("lora_da.losses")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lora_da.{module}"), name)
    raise AttributeError(f"module 'lora_da' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "losses"])
