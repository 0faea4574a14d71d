"""Loading: base models in any precision, and rows of data as tokenised examples."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_da.loading.data.data_names import check_data
    from lora_da.loading.data.examples import PreparedExamples, prepare_examples
    from lora_da.loading.data.row_format import RowFormat
    from lora_da.loading.data.rows import fingerprint, load_rows
    from lora_da.loading.gguf import convert_gguf
    from lora_da.loading.model_check import PRECISIONS, check_model
    from lora_da.loading.model_source import NAMED_MODELS, ModelSource, find_model
    from lora_da.loading.models import LoadedModel, load_config, load_model, load_tokenizer

__all__ = [
    "NAMED_MODELS",
    "PRECISIONS",
    "LoadedModel",
    "ModelSource",
    "PreparedExamples",
    "RowFormat",
    "check_data",
    "check_model",
    "convert_gguf",
    "find_model",
    "fingerprint",
    "load_config",
    "load_model",
    "load_rows",
    "load_tokenizer",
    "prepare_examples",
]

# Imported at first use: transformers, TRL and datasets take seconds.
_HOMES = {
    "data.examples": ("PreparedExamples", "prepare_examples"),
    "gguf": ("convert_gguf",),
    "models": ("LoadedModel", "load_config", "load_model", "load_tokenizer"),
    "model_check": ("PRECISIONS", "check_model"),
    "model_source": ("NAMED_MODELS", "ModelSource", "find_model"),
    "data.row_format": ("RowFormat",),
    "data.data_names": ("check_data",),
    "data.rows": ("fingerprint", "load_rows"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lora_da.loading.{module}"), name)
    raise AttributeError(f"module 'lora_da.loading' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
