"""What tells one base model from another, whatever its precision and wherever it lies."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lora_da.adapter.sharding import gather_parameter, is_sharded
from lora_da.statistics.sums import ModelIdentity


def identify_model(model: nn.Module) -> ModelIdentity:
    """Return what identifies a base model: its name, its revision, and some entries of its input embedding."""
    config = getattr(model, "config", None)
    name, revision = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
    try:
        weight = model.get_input_embeddings().weight  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # a model of another library, or one without a single embedding
        weight = None
    signature = torch.zeros(0)
    if isinstance(weight, Tensor) and weight.is_floating_point() and weight.device.type != "meta":
        # The forward pass gathers it too.
        entries = (gather_parameter(weight) if is_sharded(weight) else weight.detach()).flatten()
        signature = entries[:: max(1, len(entries) // 256)][:256].float().cpu().contiguous()
    return ModelIdentity(name or None, revision, signature)
