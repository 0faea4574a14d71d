"""Loading: models and data for the commands."""

from lora_da.loading.models import LoadedModel, convert_gguf, find_minilm, find_smollm2, load_model
from lora_da.loading.rows import fingerprint, load_rows

__all__ = ["LoadedModel", "convert_gguf", "find_minilm", "find_smollm2", "fingerprint", "load_model", "load_rows"]
