"""What wraps a model: PEFT, the compiler, and the wrappers for training by several processes."""

from __future__ import annotations

import inspect
from typing import Any

from peft import PeftMixedModel, PeftModel
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper for training by several processes, whose exchange of gradients is not needed.

    Such wrappers are DistributedDataParallel and DeepSpeed's engine; other models are returned as they are.
    """
    wrapped = isinstance(model, DistributedDataParallel) or type(model).__name__ == "DeepSpeedEngine"
    return model.module if wrapped else model  # type: ignore[return-value]


def find_base_model(model: nn.Module) -> nn.Module:
    """Return the model that PEFT, ``torch.compile`` or a module around it wraps.

    Its layers have the names that they have without PEFT.
    """
    entry = find_entry(model)
    inner = _passed_on_to(entry)
    return entry if inner is None else find_base_model(inner)


def find_adapter_config(model: nn.Module, adapter_name: str) -> Any:
    """Return the configuration of an adapter of a model or of one inside it, such as a ``LoraConfig``; None if none."""
    for module in model.modules():
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, dict) and adapter_name in configs:
            return configs[adapter_name]
    return None


def find_entry(model: nn.Module) -> nn.Module:
    """Return the module to call with a batch: the base model, or the outermost one of a user's around it."""
    inner = _inside(model)
    return model if inner is None else find_entry(inner)


def _inside(model: nn.Module) -> nn.Module | None:
    """The model in a wrapper of training, of the compiler or of PEFT; None if it is no such wrapper."""
    if unwrap_model(model) is not model:
        return unwrap_model(model)
    if isinstance(model, PeftModel | PeftMixedModel):
        return model.base_model
    # PEFT's classes pass on what they lack, so that this must come last.
    inside: nn.Module | None = model.model if isinstance(model, BaseTuner) else getattr(model, "_orig_mod", None)
    return inside


def _passed_on_to(model: nn.Module) -> nn.Module | None:
    """The one module that another is around which takes any arguments, as what only passes them on does.

    One with arguments of its own is around a model too if that is of transformers, and itself is not.
    """
    children = [child for child in model.children() if next(child.parameters(), None) is not None]
    if len(children) != 1:
        return None
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    passes_on = kinds and kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    around = _is_whole_model(children[0]) and not _is_whole_model(model)
    return children[0] if passes_on or around else None


def _is_whole_model(module: nn.Module) -> bool:
    return isinstance(module, PeftModel | PeftMixedModel) or hasattr(type(module), "base_model_prefix")
