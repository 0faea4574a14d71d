"""Data-aware initialisation of LoRA adapters (LoRA-DA, arXiv 2510.24561), for PEFT."""

from lora_da.config import LoraDAConfig
from lora_da.initialize import collect_statistics, initialize_lora_da_weights
from lora_da.report import InitializationReport, load_report
from lora_da.solver.solve import LayerInit, solve_layer
from lora_da.statistics.config import CollectionConfig
from lora_da.statistics.storage import load_statistics, save_statistics
from lora_da.statistics.sums import LayerStatistics, Statistics

__version__ = "0.1.0"

__all__ = [
    "CollectionConfig",
    "InitializationReport",
    "LayerInit",
    "LayerStatistics",
    "LoraDAConfig",
    "Statistics",
    "collect_statistics",
    "initialize_lora_da_weights",
    "load_report",
    "load_statistics",
    "save_statistics",
    "solve_layer",
]
