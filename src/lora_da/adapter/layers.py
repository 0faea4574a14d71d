"""Which layers of a model carry a LoRA adapter, which of them LoRA-DA can serve, and the linear layers without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn

from lora_da.adapter.sharding import is_sharded, whole_shape
from lora_da.adapter.target_names import check_target_names
from lora_da.adapter.wrapping import find_adapter_config, find_base_model
from lora_da.statistics.layers import Layer, ParameterLayer

# Inits that write part of W into A and B and leave the rest in the base layer: the base is no longer the model.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


@dataclass(frozen=True)
class AdaptedLayer:
    """One linear layer with a LoRA adapter.

    Attributes:
        base: The frozen layer that PEFT wraps, or a part of its parameter.
        A: lora_A's weight, (rank, d_in), or a view of a part of it.
        B: lora_B's weight, (d_out, rank), or a view of a part of it.
        scaling: s, which PEFT multiplies B A with.
    """

    base: Layer
    A: Tensor
    B: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        """LoRA's rank r."""
        return whole_shape(self.A)[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (d_out, d_in) of the base layer."""
        return whole_shape(self.B)[0], whole_shape(self.A)[1]


def find_lora_layers(model: nn.Module, adapter_name: str) -> dict[str, LoraLayer]:
    """Find PEFT's layers of an adapter, of every kind, by their names in the base model.

    Raises:
        ValueError: There is no LoRA adapter, none of that name, or one is merged into a layer of it.
    """
    found = {name: m for name, m in find_base_model(model).named_modules() if isinstance(m, LoraLayer)}
    if not found:
        raise ValueError("the model has no LoRA adapter; make one with peft.get_peft_model(model, LoraConfig(...))")
    names = sorted({name for layer in found.values() for name in layer.r})
    if adapter_name not in names:
        raise ValueError(f"the model has no LoRA adapter named {adapter_name!r}; it has {', '.join(names)}")
    layers = {name: layer for name, layer in found.items() if adapter_name in layer.r}
    for name, layer in layers.items():
        if layer.merged:
            raise ValueError(f"an adapter is merged into layer {name}; call unmerge_adapter() first")
    return layers


def list_active_adapters(model: nn.Module) -> list[str]:
    """Return the names of a model's active adapters; "default" where it has none."""
    layers = (module for module in find_base_model(model).modules() if isinstance(module, LoraLayer))
    return next((list(layer.active_adapters) for layer in layers), ["default"])


def find_active_adapter(model: nn.Module) -> str:
    """Return the name of a model's active adapter; of several, that of PEFT's own name, "default".

    Raises:
        ValueError: Several are active, none of which is that.
    """
    names = list_active_adapters(model)
    if len(names) > 1 and "default" not in names:
        raise ValueError(f"several adapters are active ({', '.join(names)}): give adapter_name, one of them")
    return names[0] if len(names) == 1 else "default"


def find_adapted_layers(model: nn.Module, adapter_name: str) -> tuple[dict[str, AdaptedLayer], dict[str, str]]:
    """Find the layers that an adapter adapts.

    Args:
        model: A PEFT model.
        adapter_name: The adapter's name.

    Returns:
        The layers that can be served, by their names in the base model, and the reasons why others can't.

    Raises:
        ValueError: There is no LoRA adapter, none of that name, none with a layer that can be served; or the adapter is
            merged, or of an initialisation that has changed the base; or its configuration names a layer that is not
            there.
    """
    lora_layers = find_lora_layers(model, adapter_name)
    _check_config(model, adapter_name)

    served: dict[str, AdaptedLayer] = {}
    refused: dict[str, str] = {}
    for name, layer in lora_layers.items():
        reason = _cannot_serve(layer, adapter_name)
        if reason:
            refused[name] = reason
            continue
        A, B = _weight(layer.lora_A[adapter_name]), _weight(layer.lora_B[adapter_name])
        if isinstance(layer, ParamWrapper):
            served |= _parameter_layers(name, layer, A, B, adapter_name)
        else:
            served[name] = AdaptedLayer(layer.get_base_layer(), A, B, layer.scaling[adapter_name])
    if not served:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ValueError(f"no layer of the adapter can be initialised by LoRA-DA ({reasons})")
    return served, refused


def split_by_rank(layers: Mapping[str, AdaptedLayer]) -> tuple[dict[str, AdaptedLayer], dict[str, str]]:
    """Set the layers aside whose rank no subspace of their input can have.

    Returns:
        The layers that can be initialised, and the reasons why others can't.

    Raises:
        ValueError: None can be.
    """
    wide = {name: layer for name, layer in layers.items() if layer.rank <= layer.shape[1]}
    narrow = {
        name: f"has rank {layer.rank}, above its input width {layer.shape[1]}: lower its rank"
        for name, layer in layers.items()
        if name not in wide
    }
    if layers and not wide:
        raise ValueError(
            "no layer of the adapter can be initialised: " + next(f"layer {n} {r}" for n, r in narrow.items())
        )
    return wide, narrow


def check_rank(name: str, rank: int, d_in: int) -> None:
    """Refuse a rank that no subspace of the layer's input can have.

    Raises:
        ValueError: It is above d_in.
    """
    if rank > d_in:
        raise ValueError(f"layer {name} has rank {rank}, above its input width {d_in}: lower its rank")


def _parameter_layers(
    name: str, layer: ParamWrapper, A: nn.Parameter, B: nn.Parameter, adapter_name: str
) -> dict[str, AdaptedLayer]:
    """The matrices of an adapted parameter: of a stack of experts each has its own A and B, as PEFT lays them out."""
    name = f"{name.replace('.base_layer', '')}.{layer.parameter_name}"  # wrappers of two parameters are nested
    module, scaling, count = layer.get_base_layer(), layer.scaling[adapter_name], layer.num_experts
    if layer.get_param().ndim == 2:
        return {name: AdaptedLayer(ParameterLayer(module, layer.parameter_name), A, B, scaling)}
    own_A, own_B = A.detach().view(count, -1, A.shape[1]), B.detach().view(B.shape[0], -1, count)
    return {
        f"{name}.{index}": AdaptedLayer(
            ParameterLayer(module, layer.parameter_name, index), own_A[index], own_B[:, :, index], scaling
        )
        for index in range(count)
    }


def _weight(part: nn.Module) -> nn.Parameter:
    weight = part.weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _check_config(model: nn.Module, adapter_name: str) -> None:
    config = find_adapter_config(model, adapter_name)
    if config is not None:
        check_target_names(find_base_model(model), config)
    init = getattr(config, "init_lora_weights", True)
    if isinstance(init, str) and init.startswith(_CHANGES_THE_BASE):
        raise ValueError(
            f"the adapter was made with init_lora_weights={init!r}, which changes the base weights; "
            "make it with init_lora_weights=True, on an untouched base"
        )


def _cannot_serve(layer: LoraLayer, adapter_name: str) -> str | None:
    if adapter_name in getattr(layer, "lora_variant", {}):
        variant = type(layer.lora_variant[adapter_name]).__name__
        return f"uses a variant of LoRA ({variant}, such as DoRA) whose step from W is not s·B·A"
    linear = adapter_name in layer.lora_A and isinstance(layer.lora_A[adapter_name], nn.Linear)
    # MultiheadAttention never calls the layer that it adapts.
    if not linear or type(layer).__name__ == "MultiheadAttention":
        return f"is no linear layer ({type(layer.get_base_layer()).__name__})"
    if isinstance(layer, ParamWrapper) and is_sharded(layer.get_param()):
        return "is a parameter that is sharded, of which no part can be told apart"
    return None


def find_linear_layers(model: Any) -> dict[str, nn.Module]:
    """Return all linear layers of a plain model but its output head, as ``target_modules="all-linear"`` has it.

    Returns:
        The layers by their names, in the model's order.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }


def shape_of_linear(layer: nn.Module) -> tuple[int, int]:
    """Return (d_out, d_in) of one of :func:`find_linear_layers`."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    weight = layer.weight  # Conv1D's, which lies the other way round
    assert isinstance(weight, nn.Parameter)
    d_in, d_out = weight.shape
    return d_out, d_in
