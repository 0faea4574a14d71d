"""An adapter of which B alone is trained: A stays as it was initialised (LoRA-FA, arXiv 2308.03303)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from peft.tuners.lora import LoraLayer
from torch import nn

from lora_da.adapter.layers import find_lora_layers, list_active_adapters
from lora_da.adapter.materialisation import parts_of
from lora_da.adapter.sharding import gather_parameter, is_partitioned, whole_shape


def freeze_a(peft_model: nn.Module, adapter_name: str | None = None) -> int:
    """Freeze every lora_A of an adapter, so that training moves its B alone; call it before ``train()``.

    A then has no gradient and no optimiser state, and a layer's input is not kept for it. What else an adapter trains,
    ``modules_to_save``, biases and DoRA's magnitudes, stays trained. PEFT keeps A frozen when adapters are switched,
    disabled or loaded again in place, as a trainer does that resumes; a new process has to call this once more. It may
    be called before A is initialised or after, and twice.

    Of an embedding whose adapter is tied to a linear layer's, the factor that is the linear layer's A is frozen, which
    is the embedding's B.

    Args:
        peft_model: A model with a LoRA adapter: that of a trainer once this is made, and before an optimiser is, or
            DistributedDataParallel or FSDP wrap it. (TRL rounds what is trained on a quantised base to bfloat16.)
        adapter_name: Which adapter; without it, the active one (or ones).

    Returns:
        The number of parameters of the whole model that are trained now.

    Raises:
        ValueError: There is no such adapter, or one is merged into a layer of it; or the model is partitioned by
            DeepSpeed's ZeRO-3, whose checkpoints hold trained parameters only, and so would lack A.
    """
    if any(is_partitioned(parameter) for parameter in peft_model.parameters()):
        raise ValueError(
            "with A frozen, checkpoints of DeepSpeed's ZeRO-3 would lack A, since they hold trained parameters only: "
            "use ZeRO-2 or FSDP"
        )
    names = [adapter_name] if adapter_name is not None else list_active_adapters(peft_model)
    adapters = {name: find_lora_layers(peft_model, name) for name in names}  # all errors before the first change
    zero = [layer for name, layers in adapters.items() for layer in _freeze(layers, name)]
    if zero:
        warnings.warn(
            f"A is zero in {len(zero)} layers, the first {zero[0]}, which learn nothing while it is frozen: leave them "
            "out of target_modules (PEFT starts an embedding's A at zero)",
            stacklevel=2,
        )
    return sum(whole_shape(p).numel() for p in peft_model.parameters() if p.requires_grad)


def _freeze(layers: Mapping[str, LoraLayer], adapter_name: str) -> list[str]:
    """Freeze one adapter's; the names of the layers where what is frozen is zero."""
    parts = {name: parts_of(layer, adapter_name) for name, layer in layers.items()}
    linear = {p.data_ptr() for found in parts.values() for p in _parameters(found.get("lora_A"))} - {0}
    zero = []
    for name, layer in layers.items():
        tied = any(p.data_ptr() in linear for p in _parameters(parts[name].get("lora_embedding_B")))
        kinds = ("lora_embedding_B",) if tied else ("lora_A", "lora_embedding_A")
        known = layer.frozen_peft_weight_names  # what PEFT freezes again whenever it has changed requires_grad
        own = dict.fromkeys((*known.get(adapter_name, ()), *kinds))
        layer.frozen_peft_weight_names = known | {adapter_name: tuple(own)}
        for parameter in [p for kind in kinds for p in _parameters(parts[name].get(kind))]:
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimiser that has it already would go on with it
            if not (parameter.is_meta or gather_parameter(parameter).any()):
                zero.append(name)
    return zero


def _parameters(part: nn.Module | nn.Parameter | None) -> list[nn.Parameter]:
    if part is None or isinstance(part, nn.Parameter):
        return [] if part is None else [part]
    return list(part.parameters())
