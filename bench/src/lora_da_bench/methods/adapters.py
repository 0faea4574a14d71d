"""What the methods share: PEFT's adapter on a setup's model, its layers, and their factors A and B."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from lora_da_bench.methods.method import Setup

_ADAPTER = "default"


@dataclasses.dataclass(frozen=True)
class AdaptedLayer:
    """A linear layer with an adapter.

    Attributes:
        A: lora_A's weight, (r, d_in).
        B: lora_B's weight, (d_out, r).
        scaling: s, which PEFT multiplies B A with.
    """

    A: Tensor
    B: Tensor
    scaling: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(d_out, d_in, r)."""
        return self.B.shape[0], self.A.shape[1], self.A.shape[0]


def add_adapter(setup: Setup, **changes: Any) -> PeftModel:
    """Put an adapter on the setup's model, whose configuration differs from the setup's in ``changes``."""
    # PEFT resolves names and adds modules in the configuration that it is given, lists included.
    model = get_peft_model(setup.model, dataclasses.replace(copy.deepcopy(setup.lora), **changes))
    return model.train(setup.model.training)  # a new PeftModel says that it is in training, whatever its base does


def find_layers(model: PeftModel) -> dict[str, AdaptedLayer]:
    """Find the adapted linear layers, by their names in the base model."""
    found = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and _ADAPTER in module.lora_A:
            factors: Any = module.lora_A[_ADAPTER], module.lora_B[_ADAPTER]
            found[name] = AdaptedLayer(factors[0].weight, factors[1].weight, module.scaling[_ADAPTER])
    return found


@torch.no_grad()
def write_factors(layers: Mapping[str, AdaptedLayer], factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Copy A (r, d_in) and B (d_out, r) into the layers' parameters, by the layers' names."""
    for name, (A, B) in factors.items():
        layers[name].A.copy_(A)
        layers[name].B.copy_(B)


def name_layers(setup: Setup, **changes: Any) -> tuple[dict[str, AdaptedLayer], LoraConfig]:
    """Find the layers for PEFT's inits that run before ``get_peft_model``.

    PEFT resolves "all-linear" only while it makes an adapter, so one is made and taken off again.

    Args:
        setup: The setup; its model computes what it did, afterwards.
        changes: To the adapter's configuration.

    Returns:
        The layers as a plain adapter has them, and a configuration that names them one by one.
    """
    probe = add_adapter(setup)
    layers = find_layers(probe)
    probe.unload()
    return layers, dataclasses.replace(copy.deepcopy(setup.lora), target_modules=list(layers), **changes)


def move_batches(setup: Setup) -> Iterator[dict[str, Tensor]]:
    """Move the calibration batches to the model's device, one by one."""
    device = next(setup.model.parameters()).device
    for batch in setup.batches:
        yield {key: value.to(device) for key, value in batch.items()}
