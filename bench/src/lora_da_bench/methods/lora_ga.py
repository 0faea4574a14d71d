"""LoRA-GA: A and B from the singular vectors of the gradient, taken off the base (arXiv 2407.05000)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from peft import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from torch import nn

from lora_da.adapter.factors import write_factors
from lora_da_bench.methods.adapters import (
    batches_on_device,
    layers_of,
    shapes_and_config,
    shapes_of,
    take_from_base,
    with_adapter,
)
from lora_da_bench.methods.gradients import mean_gradients
from lora_da_bench.methods.method import Method, Setup

_GAMMA = 16.0  # PEFT's default


def _paper(setup: Setup) -> nn.Module:
    """With G = U S Vᵀ: A = c·V[:, :r]ᵀ, B = c·U[:, r:2r], c = d_out^¼/√γ, and W ← W − s·B A.

    Singular vectors without their values make the first step of A and B nearest to that of full fine-tuning.
    """
    model = with_adapter(setup)
    layers = layers_of(model)
    _check_ranks(shapes_of(model))
    factors = {}
    for name, gradient in mean_gradients(model, setup).items():
        rank = layers[name].rank
        U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
        size = gradient.shape[0] ** 0.25 / _GAMMA**0.5
        factors[name] = (size * Vh[:rank], size * U[:, rank : 2 * rank])
    write_factors(layers, factors)
    take_from_base(layers.values())
    return model


def _peft(setup: Setup) -> nn.Module:
    shapes, config = shapes_and_config(setup, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    _check_ranks(shapes)

    def train_step() -> None:
        for batch in batches_on_device(setup):
            setup.model(**batch).loss.backward()

    preprocess_loraga(setup.model, config, train_step)
    return with_adapter(dataclasses.replace(setup, lora=config))


def _check_ranks(shapes: Mapping[str, tuple[int, int, int]]) -> None:
    for name, (d_out, d_in, rank) in shapes.items():
        if 2 * rank > min(d_out, d_in):
            raise ValueError(
                f"LoRA-GA needs 2r = {2 * rank} singular vectors of layer {name}, whose gradient ({d_out} × {d_in}) "
                f"has {min(d_out, d_in)}: lower the rank, or leave the layer out"
            )


METHODS = (
    Method(
        "lora-ga",
        "LoRA-GA in its paper's scaling: singular vectors 1…r (A) and r+1…2r (B) of the gradient times d_out^¼/√γ, the "
        f"base keeps W − s·B·A; γ = {_GAMMA:g}, PEFT's default (arXiv 2407.05000)",
        _paper,
        uses_data=True,
    ),
    Method(
        "lora-ga-peft",
        "LoRA-GA by PEFT, with its defaults; not the reference: its B carries singular values",
        _peft,
        uses_data=True,
    ),
)
