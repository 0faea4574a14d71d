"""LoRA-One: the adapter starts at a step along the gradient's top singular part (arXiv 2502.01235)."""

from __future__ import annotations

import torch
from torch import nn

from lora_da.adapter.factors import write_factors
from lora_da_bench.methods.adapters import layers_of, with_adapter
from lora_da_bench.methods.gradients import mean_gradients
from lora_da_bench.methods.method import Method, Setup

_GAMMA = 128.0


def _initialise(setup: Setup) -> nn.Module:
    """With −G = U S Vᵀ: A = √(S/S₁)·Vᵀ/√γ, B = U·√(S/S₁)/√γ. The base stays, so that the function changes."""
    model = with_adapter(setup)
    layers = layers_of(model)
    factors = {}
    for name, gradient in mean_gradients(model, setup).items():
        rank = layers[name].rank
        U, S, Vh = torch.linalg.svd(-gradient, full_matrices=False)
        roots = (S[:rank] / S[0] / _GAMMA).sqrt()
        factors[name] = (roots[:, None] * Vh[:rank], U[:, :rank] * roots)
    write_factors(layers, factors)
    return model


METHODS = (
    Method(
        "lora-one",
        "LoRA-One: B·A is the top r singular part of −G, divided by its largest singular value and by γ = "
        f"{_GAMMA:g}, on the untouched base; without its preconditioned optimiser (arXiv 2502.01235)",
        _initialise,
        uses_data=True,
    ),
)
