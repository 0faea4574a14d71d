"""LoRA-One: the adapter starts at a step along the gradient's top singular part (arXiv 2502.01235)."""

from __future__ import annotations

import torch
from torch import nn

from lora_da import CollectionConfig, collect_statistics
from lora_da_bench.methods.adapters import add_adapter, find_factors, write_factors
from lora_da_bench.methods.method import Method, Setup

_GAMMA = 128.0


def _initialise(setup: Setup) -> nn.Module:
    """With −G = U S Vᵀ: A = √(S/S₁)·Vᵀ/√γ, B = U·√(S/S₁)/√γ. The base stays, so that the function changes.

    G is the gradient of the mean loss with respect to the layer's weight, (d_out, d_in): the mean over the examples of
    each example's mean over its label tokens.
    """
    model = add_adapter(setup)
    mean_loss = CollectionConfig(loss_reduction="mean")
    statistics = collect_statistics(model, setup.batches, mean_loss, max_examples=setup.examples, progress=False)
    factors = {}
    for name, (A, _) in find_factors(model).items():
        gradient = statistics.gradient_sums.get(name)
        if gradient is None or not bool(gradient.any()):
            raise ValueError(f"the gradient of layer {name} is zero: the calibration sample says nothing about it")
        rank = len(A)
        U, S, Vh = torch.linalg.svd(-gradient / statistics.examples, full_matrices=False)
        roots = (S[:rank] / S[0] / _GAMMA).sqrt()
        factors[name] = (roots[:, None] * Vh[:rank], U[:, :rank] * roots)
    write_factors(model, factors)
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
