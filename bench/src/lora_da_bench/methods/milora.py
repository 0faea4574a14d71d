"""MiLoRA: the adapter is the base weight's minor part (arXiv 2406.09044)."""

from __future__ import annotations

import torch
from torch import nn

from lora_da.adapter.factors import write_factors
from lora_da_bench.methods.adapters import base_weight, layers_of, take_from_base, with_adapter
from lora_da_bench.methods.method import Method, Setup


def _initialise(setup: Setup) -> nn.Module:
    """With W = U S Vᵀ and its r smallest singular values: A = √(S/s)·Vᵀ, B = U·√(S/s), and W ← W − s·B A."""
    model = with_adapter(setup)
    layers = layers_of(model)
    factors = {}
    for name, layer in layers.items():
        U, S, Vh = torch.linalg.svd(base_weight(layer), full_matrices=False)
        roots = (S[-layer.rank :] / layer.scaling).sqrt()
        factors[name] = (roots[:, None] * Vh[-layer.rank :], U[:, -layer.rank :] * roots)
    write_factors(layers, factors)
    take_from_base(layers.values())
    return model


METHODS = (
    Method(
        "milora",
        "MiLoRA: s·B·A is the bottom r singular part of W, and the base keeps the rest (arXiv 2406.09044)",
        _initialise,
    ),
)
