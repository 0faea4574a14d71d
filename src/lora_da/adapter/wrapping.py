"""What wraps a model: PEFT, the compiler, and the wrappers for training by several processes."""

from __future__ import annotations

from peft import PeftModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper for training by several processes, whose exchange of gradients is not needed.

    Such wrappers are DistributedDataParallel and DeepSpeed's engine; other models are returned as they are.
    """
    wrapped = isinstance(model, DistributedDataParallel) or type(model).__name__ == "DeepSpeedEngine"
    return model.module if wrapped else model  # type: ignore[return-value]


def find_base_model(model: nn.Module) -> nn.Module:
    """Return the model that PEFT or ``torch.compile`` wraps, whose layers have the names that they have without."""
    model = unwrap_model(model)
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    return getattr(model, "_orig_mod", model)
