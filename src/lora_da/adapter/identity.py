"""What tells one base model from another, whatever its precision and wherever it lies."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lora_da.adapter.description import find_base_modules
from lora_da.adapter.sharding import gather_parameter, is_sharded, whole_shape
from lora_da.statistics.sums import ModelIdentity


def identify_model(model: nn.Module) -> ModelIdentity:
    """Return what identifies a base model: its name, its revision, and some entries of its input embedding.

    Of a model without one it is the largest parameter outside of linear layers, which quantisation leaves alone.
    """
    config = getattr(model, "config", None)
    name, revision = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
    weight = _telling_weight(model)
    signature = torch.zeros(0)
    if weight is not None and weight.device.type != "meta":
        # The forward pass gathers it too.
        entries = (gather_parameter(weight) if is_sharded(weight) else weight.detach()).flatten()
        signature = entries[:: max(1, len(entries) // 256)][:256].float().cpu().contiguous()
    return ModelIdentity(name or None, revision, signature)


def _telling_weight(model: nn.Module) -> Tensor | None:
    try:
        weight = model.get_input_embeddings().weight  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # a model of another library, or one without a single embedding
        weight = None
    if isinstance(weight, Tensor) and weight.is_floating_point():
        return weight
    sizes = {
        parameter: (not isinstance(module, nn.Linear), whole_shape(parameter).numel())
        for _, module in find_base_modules(model)
        for parameter in module.parameters(recurse=False)
        if parameter.is_floating_point()
    }
    return max(sizes, key=lambda parameter: sizes[parameter], default=None)
