"""Training and measuring one adapter.

A loop of its own in the place of a trainer: a step takes a tenth of a second here and there are thousands of runs, of
which a trainer's preparation, callbacks and logging would be a good part. There is nothing in it but AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor, nn

from lora_da_bench.methods.adapters import find_factors, write_factors

_LAST = 10  # steps, whose mean training loss is kept


def start_adapter(model: PeftModel, A: Mapping[str, Tensor] | None, seed: int, *, train_a: bool) -> None:
    """Bring all adapted layers to a start with B = 0.

    Args:
        model: With an adapter, perhaps a trained one.
        A: By layer; None leaves A as PEFT draws it.
        seed: Of that drawing.
        train_a: Whether A is trained as well as B.
    """
    factors = find_factors(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in factors:
            model.get_base_model().get_submodule(name).reset_lora_parameters("default", True)  # type: ignore[operator]
    if A is not None:
        write_factors(model, {name: (A[name], torch.zeros_like(B)) for name, (_, B) in factors.items()})
    for own, B in factors.values():
        own.requires_grad_(train_a)
        B.requires_grad_(True)


def train_adapter(model: PeftModel, batches: Tensor, learning_rate: float) -> float | None:
    """Train by AdamW, without weight decay, at a constant rate.

    Args:
        model: As :func:`start_adapter` leaves it.
        batches: (steps, batch, length).
        learning_rate: Of all steps.

    Returns:
        The mean loss of the last steps, nats per token; None once a step's loss is not finite, where training ends.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    model.train()
    for batch in batches:
        loss = _token_losses(model, batch).mean()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            return None
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return sum(losses[-_LAST:]) / len(losses[-_LAST:])


@torch.no_grad()
def measure_blocks(model: PeftModel, blocks: Tensor, batch_size: int = 16) -> list[float]:
    """Measure each block's loss, nats per token."""
    model.eval()
    return [float(loss) for part in blocks.split(batch_size) for loss in _token_losses(model, part).mean(1)]


def _token_losses(model: PeftModel, blocks: Tensor) -> Tensor:
    """(B, length − 1)."""
    logits = model(input_ids=blocks, use_cache=False).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.mT, blocks[:, 1:], reduction="none")
