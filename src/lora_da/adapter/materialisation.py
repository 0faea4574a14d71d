"""Adapters made on the meta device (``low_cpu_mem_usage=True``), given memory and PEFT's default init."""

from __future__ import annotations

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from lora_da.adapter.wrapping import find_base_model
from lora_da.statistics.layers import find_device
from lora_da.system.random_state import preserve_random_state


def materialise_adapter(model: nn.Module, adapter_name: str) -> None:
    """Give an adapter's parameters memory beside their base layers, where they are on the meta device.

    They start as PEFT starts them, so that layers that nothing else is written to can be trained as well.

    Raises:
        ValueError: A base layer is on the meta device too.
    """
    with preserve_random_state():
        for name, layer in find_base_model(model).named_modules():
            if isinstance(layer, LoraLayer) and any(map(_is_meta, parts_of(layer, adapter_name).values())):
                _materialise(name, layer, adapter_name)


def _materialise(name: str, layer: LoraLayer, adapter_name: str) -> None:
    device = find_device(layer.get_base_layer())
    if device.type == "meta":
        raise ValueError(
            f"layer {name} is on the meta device, with its adapter: the model was made without weights, or device_map "
            "has offloaded them, which is not supported; load it onto devices that hold it"
        )
    for key, part in parts_of(layer, adapter_name).items():
        if isinstance(part, nn.Module):
            part.to_empty(device=device)
        else:
            getattr(layer, key)[adapter_name] = nn.Parameter(torch.empty_like(part, device=device), part.requires_grad)
    layer.reset_lora_parameters(adapter_name, True)


def parts_of(layer: LoraLayer, adapter_name: str) -> dict[str, nn.Module | nn.Parameter]:
    """What a layer holds of an adapter, by where it does."""
    holders = {key: getattr(layer, key, {}) for key in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")}
    return {key: holder[adapter_name] for key, holder in holders.items() if adapter_name in holder}


def _is_meta(part: nn.Module | nn.Parameter) -> bool:
    parameters = part.parameters() if isinstance(part, nn.Module) else [part]
    return any(parameter.device.type == "meta" for parameter in parameters)
