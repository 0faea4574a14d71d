"""Which layers of a model carry a LoRA adapter, and which of them LoRA-DA can serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lora_da.adapter.sharding import is_sharded, whole, whole_shape
from lora_da.statistics.hooks.experts import Layer, ParameterLayer
from lora_da.statistics.sums import ModelIdentity

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
        """LoRA's r."""
        return whole_shape(self.A)[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the base layer."""
        return whole_shape(self.B)[0], whole_shape(self.A)[1]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model in a wrapper for training by several processes, whose exchange of gradients has nothing to do here."""
    wrapped = isinstance(model, DistributedDataParallel) or type(model).__name__ == "DeepSpeedEngine"
    return model.module if wrapped else model  # type: ignore[return-value]


def base_model_of(model: nn.Module) -> nn.Module:
    """The model that PEFT or ``torch.compile`` wraps, so that its layers have the names that they have without."""
    model = unwrapped(model)
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    return getattr(model, "_orig_mod", model)


def adapted_layers(model: nn.Module, adapter_name: str) -> tuple[dict[str, AdaptedLayer], dict[str, str]]:
    """Find the layers that an adapter adapts.

    Args:
        model: A PEFT model.
        adapter_name: The adapter's name.

    Returns:
        The layers that can be served, by their names in the base model, and the reasons why others can't.

    Raises:
        ValueError: There is no LoRA adapter, none of that name, none with a layer that can be served; or the adapter is
            merged, on the meta device, of a rank above d_in, or of an initialisation that has changed the base.
    """
    lora_layers = {name: m for name, m in base_model_of(model).named_modules() if isinstance(m, LoraLayer)}
    if not lora_layers:
        raise ValueError("the model has no LoRA adapter; make one with peft.get_peft_model(model, LoraConfig(...))")
    names = sorted({name for layer in lora_layers.values() for name in layer.r})
    if adapter_name not in names:
        raise ValueError(f"the model has no LoRA adapter named {adapter_name!r}; it has {', '.join(names)}")
    _check_config(model, adapter_name)

    served: dict[str, AdaptedLayer] = {}
    refused: dict[str, str] = {}
    for name, layer in lora_layers.items():
        if adapter_name not in layer.r:
            continue
        if layer.merged:
            raise ValueError(f"an adapter is merged into layer {name}; call unmerge_adapter() first")
        reason = _cannot_serve(layer, adapter_name)
        if reason:
            refused[name] = reason
            continue
        A, B = _weight(layer.lora_A[adapter_name]), _weight(layer.lora_B[adapter_name])
        if A.device.type == "meta" or B.device.type == "meta":
            raise ValueError(
                f"the adapter of layer {name} is on the meta device and has no memory to write to: make the model or "
                "the adapter without low_cpu_mem_usage or init_empty_weights, and with a device_map that offloads "
                "nothing to the disk or the CPU"
            )
        check_rank(name, layer.r[adapter_name], whole_shape(A)[1])
        if isinstance(layer, ParamWrapper):
            served |= _parameter_layers(name, layer, A, B, adapter_name)
        else:
            served[name] = AdaptedLayer(layer.get_base_layer(), A, B, layer.scaling[adapter_name])
    if not served:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ValueError(f"no layer of the adapter can be initialised by LoRA-DA ({reasons})")
    return served, refused


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
    configs = getattr(getattr(model, "_orig_mod", model), "peft_config", None)
    config = configs.get(adapter_name) if isinstance(configs, dict) else None
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


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """All linear layers of a plain model but its output head, as ``target_modules="all-linear"`` has it."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """(d_out, d_in) of one of :func:`linear_layers`."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    d_in, d_out = _weight(layer).shape  # Conv1D
    return d_out, d_in


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Disable every adapter of every layer, ``modules_to_save`` included.

    Those that were enabled are enabled again at the end, with their ``requires_grad`` as before.
    """
    adapters = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    required_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    layers = [m for m in model.modules() if isinstance(m, adapters) and not m.disable_adapters]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, required in required_grad.items():
            parameter.requires_grad_(required)


@contextmanager
def only_adapter_active(model: nn.Module, adapter_name: str) -> Iterator[None]:
    """Activate one adapter alone; put back which were, and every ``requires_grad``."""
    required_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    before = [(m, m.active_adapter, m.disable_adapters) for m in model.modules() if isinstance(m, BaseTunerLayer)]
    try:
        for layer, _, _ in before:
            layer.set_adapter([adapter_name])
            layer.enable_adapters(True)
        yield
    finally:
        for layer, active, disabled in before:
            layer.set_adapter(active)
            layer.enable_adapters(not disabled)
        for parameter, required in required_grad.items():
            parameter.requires_grad_(required)


def identity_of(model: nn.Module) -> ModelIdentity:
    """What identifies a base model: its name, its revision, and some entries of its input embedding."""
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
        entries = (whole(weight) if is_sharded(weight) else weight.detach()).flatten()
        signature = entries[:: max(1, len(entries) // 256)][:256].float().cpu().contiguous()
    return ModelIdentity(name or None, revision, signature)
