"""The precision that a base model is loaded in: as saved, a floating-point type, or 8 or 4 bits by bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

_FLOATING: dict[str, str | torch.dtype] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Of a weight: the bits, and the scales of blocks of 64 (in 4 bits, themselves quantised in blocks of 256).
_BYTES = {8: 1.0, 4: 0.5 + 1 / 64 + 4 / (64 * 256)}


def loading_options(name: str, device: str) -> dict[str, Any]:
    """Make the arguments of ``from_pretrained`` for a precision.

    In 4 bits as QLoRA has it (arXiv 2305.14314): NF4, the scales quantised too, computed in bfloat16. Quantised weights
    go to the device at once, as they can't be moved later.
    """
    if name in _FLOATING:
        return {"dtype": _FLOATING[name]}
    if name == "8bit":
        quantisation = BitsAndBytesConfig(load_in_8bit=True)
    else:
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return {"dtype": torch.bfloat16, "quantization_config": quantisation, "device_map": {"": device}}


def keep_trainable(model: nn.Module) -> None:
    """Keep 4-bit layers as they are: on CPUs, evaluating would repack their weights so that no gradient passes."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def compute_dtype(name: str, config: Any) -> torch.dtype:
    """The type of activations, and of all weights that are not quantised; "auto" is that of the saved model."""
    if name == "auto":
        return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32  # as GGUF is converted
    found = _FLOATING.get(name, torch.bfloat16)
    assert isinstance(found, torch.dtype)
    return found


def bits(name: str, config: Any) -> int | None:
    """Of the weights of linear layers, 4 or 8 ("auto": as they were saved); None if they are floating-point numbers."""
    if name in ("8bit", "4bit"):
        return int(name.removesuffix("bit"))
    saved = getattr(config, "quantization_config", None)
    if saved is None:
        return None
    if not isinstance(saved, dict):
        saved = saved.to_dict()
    if saved.get("load_in_4bit"):
        return 4
    found = saved.get("bits", 8 if saved.get("load_in_8bit") else None)
    return found if found in _BYTES else None


def weight_bytes(model: Any, width: int | None) -> int:
    """Memory of a model's weights, perhaps fake ones, of which linear layers but the head have so many bits."""
    head = model.get_output_embeddings()
    quantised = {
        id(module.weight)
        for module in model.modules()
        if width and isinstance(module, nn.Linear) and module is not head
    }
    total = 0.0
    for parameter in model.parameters():
        size = _BYTES[width] if width and id(parameter) in quantised else parameter.dtype.itemsize
        total += parameter.numel() * size
    return round(total)
