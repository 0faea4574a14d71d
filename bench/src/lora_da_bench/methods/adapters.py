"""What the methods share: PEFT's adapter on a setup's model, its layers, and the base weights below them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from lora_da.adapter.layers import AdaptedLayer, find_adapted_layers
from lora_da.statistics.hooks.experts import ParameterLayer
from lora_da_bench.methods.method import Setup

ADAPTER = "default"


def with_adapter(setup: Setup, **changes: Any) -> PeftModel:
    """The setup's model with an adapter, whose configuration differs from the setup's in ``changes``."""
    # PEFT resolves names and adds modules in the configuration that it is given, lists included.
    model = get_peft_model(setup.model, dataclasses.replace(copy.deepcopy(setup.lora), **changes))
    return model.train(setup.model.training)  # a new PeftModel says that it is in training, whatever its base does


def layers_of(model: PeftModel) -> dict[str, AdaptedLayer]:
    """The adapted linear layers, by their names in the base model."""
    return find_adapted_layers(model, ADAPTER)[0]


def shapes_of(model: PeftModel) -> dict[str, tuple[int, int, int]]:
    """(d_out, d_in, rank) of each adapted layer."""
    return {name: (layer.B.shape[0], layer.A.shape[1], layer.rank) for name, layer in layers_of(model).items()}


def shapes_and_config(setup: Setup, **changes: Any) -> tuple[dict[str, tuple[int, int, int]], LoraConfig]:
    """What PEFT's inits that run before ``get_peft_model`` need: the layers by their names.

    PEFT resolves "all-linear" only while it makes an adapter, so one is made and taken off again.

    Args:
        setup: The setup; its model computes what it did, afterwards.
        changes: To the adapter's configuration.

    Returns:
        What :func:`shapes_of` says, and a configuration that names the layers one by one.
    """
    probe = with_adapter(setup)
    shapes = shapes_of(probe)
    probe.unload()
    return shapes, dataclasses.replace(copy.deepcopy(setup.lora), target_modules=list(shapes), **changes)


def batches_on_device(setup: Setup) -> Iterator[dict[str, Tensor]]:
    """The calibration batches, on the model's device."""
    device = next(setup.model.parameters()).device
    for batch in setup.batches:
        yield {key: value.to(device) for key, value in batch.items()}


def is_transposed(layer: AdaptedLayer) -> bool:
    """Whether the base layer stores its weight as (d_in, d_out): GPT-2's Conv1D."""
    return type(layer.base).__name__ == "Conv1D"


def base_weight(layer: AdaptedLayer) -> Tensor:
    """W of a layer, (d_out, d_in), float32.

    Raises:
        ValueError: The base is quantised, or a part of a parameter.
    """
    if isinstance(layer.base, ParameterLayer):
        raise ValueError("this method serves linear layers alone: leave target_parameters out")
    weight = layer.base.weight
    assert isinstance(weight, Tensor)
    if not weight.is_floating_point():
        raise ValueError(f"the base weight is quantised ({weight.dtype}); this method needs it in floating point")
    return (weight.detach().mT if is_transposed(layer) else weight.detach()).float()


@torch.no_grad()
def take_from_base(layers: Iterable[AdaptedLayer]) -> None:
    """Subtract s·B A from the base weights, so that the model computes what it did; in bfloat16 but for rounding."""
    for layer in layers:
        rest = base_weight(layer) - layer.scaling * (layer.B.float() @ layer.A.float())
        assert isinstance(layer.base, torch.nn.Module)
        assert isinstance(layer.base.weight, Tensor)
        layer.base.weight.copy_(rest.mT if is_transposed(layer) else rest)
