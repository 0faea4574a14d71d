"""What the methods share: PEFT's adapter on a setup's model, its layers, and their factors A and B."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from lora_da_bench.methods.method import Setup

_ADAPTER = "default"


Factors = dict[str, tuple[Tensor, Tensor]]
"""A (r, d_in) and B (d_out, r) by the layers' names in the base model."""


def add_adapter(setup: Setup, **changes: Any) -> PeftModel:
    """Put an adapter on the setup's model, whose configuration differs from the setup's in ``changes``."""
    # PEFT resolves names and adds modules in the configuration that it is given, lists included.
    model = get_peft_model(setup.model, dataclasses.replace(copy.deepcopy(setup.lora), **changes))
    return model.train(setup.model.training)  # a new PeftModel says that it is in training, whatever its base does


def find_factors(model: PeftModel) -> Factors:
    """Find the parameters A and B of the adapted linear layers."""
    found: Factors = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and _ADAPTER in module.lora_A:
            own: Any = module
            found[name] = own.lora_A[_ADAPTER].weight, own.lora_B[_ADAPTER].weight
    return found


@torch.no_grad()
def write_factors(model: PeftModel, factors: Factors) -> None:
    """Copy A and B into the layers' parameters."""
    parameters = find_factors(model)
    for name, pair in factors.items():
        for parameter, value in zip(parameters[name], pair, strict=True):
            parameter.copy_(value)


def name_layers(setup: Setup, **changes: Any) -> tuple[Factors, LoraConfig]:
    """Find the layers for PEFT's inits that run before ``get_peft_model``.

    PEFT resolves "all-linear" only while it makes an adapter, so one is made and taken off again.

    Args:
        setup: The setup; its model computes what it did, afterwards.
        changes: To the adapter's configuration.

    Returns:
        What a plain adapter has, and a configuration that names them one by one.
    """
    probe = add_adapter(setup)
    factors = find_factors(probe)
    probe.unload()
    return factors, dataclasses.replace(copy.deepcopy(setup.lora), target_modules=list(factors), **changes)


def move_batches(setup: Setup) -> Iterator[dict[str, Tensor]]:
    """Move the calibration batches to the model's device, one by one."""
    device = next(setup.model.parameters()).device
    for batch in setup.batches:
        yield {key: value.to(device) for key, value in batch.items()}


def refuse_classifiers(setup: Setup, name: str) -> None:
    """Refuse a classifier, whose inputs of one row for each example an initialisation of PEFT can't read.

    Raises:
        ValueError: The model is one.
    """
    if setup.lora.task_type == "SEQ_CLS":
        raise ValueError(f"PEFT's {name} serves language models alone")
