"""GGUF files, made into the folders that everything else reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_da.loading.gguf_head import check_gguf_file
from lora_da.loading.weights_check import check_weights
from lora_da.system.files import atomic_path
from lora_da.system.hashing import hash_file

_SOURCE_RECORD = "gguf_source.json"


def convert_gguf(file: Path, output: Path) -> Path:
    """Write the model in a GGUF file as an ordinary folder in float32, the tokenizer with it.

    Quantised weights are dequantised, so the folder holds exactly the numbers that the GGUF file stands for. A folder
    that this function made from the same bytes before is reused; a run cut short leaves no folder behind.

    Args:
        file: The GGUF file.
        output: The folder to make.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: There is no such file.
        FileExistsError: ``output`` exists and is not the conversion of this file.
        ValueError: The file is a part of a model, or lacks weights.
    """
    file, output = Path(file), Path(output)
    check_gguf_file(file)
    digest = hash_file(file)
    if _is_conversion_of(output, digest):
        return output
    if output.exists():
        raise FileExistsError(
            f"{output} exists and was not converted from {file.name} as it is now; choose another output folder or "
            "delete this one."
        )
    try:
        with atomic_path(output) as folder:
            _save_dequantised(file, folder)
            record = {"file": file.name, "sha256": digest}
            (folder / _SOURCE_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        if not _is_conversion_of(output, digest):  # another process has just made it
            raise
    return output


def _save_dequantised(file: Path, folder: Path) -> None:
    kind: Any = AutoModelForCausalLM
    source, loading = kind.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
    )
    check_weights(str(file), source, loading)
    config = source.config
    # transformers refuses to save a model that came from GGUF: it takes the weights for quantised ones. They are not
    # any more, so a fresh model takes them over under a configuration that says so.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(source.state_dict())
    fresh.tie_weights()
    fresh.generation_config = source.generation_config
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _is_conversion_of(output: Path, digest: str) -> bool:
    record = output / _SOURCE_RECORD
    if not record.is_file():
        return False
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("sha256") == digest
