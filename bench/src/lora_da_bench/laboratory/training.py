"""Training and measuring one adapter.

A loop of its own in the place of a trainer: a step takes a tenth of a second here and there are thousands of runs, of
which a trainer's preparation, callbacks and logging would be a good part. There is nothing in it but AdamW, without
dropout, whose draws would be noise between the arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor

from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.methods.adapters import find_factors, write_factors

_LAST = 10  # steps, whose mean training loss is kept
_HEAD_RATE = 1e-3  # of a classifier's head, in every arm and at every rate of the adapter


def start_adapter(model: PeftModel, A: Mapping[str, Tensor] | None, seed: int, *, train_a: bool) -> None:
    """Bring all adapted layers to a start with B = 0, and a head that is trained to that of the base model.

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
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save["default"].load_state_dict(module.original_module.state_dict())
    if A is not None:
        write_factors(model, {name: (A[name], torch.zeros_like(B)) for name, (_, B) in factors.items()})
    for own, B in factors.values():
        own.requires_grad_(train_a)
        B.requires_grad_(True)


def train_adapter(
    model: PeftModel,
    examples: Examples,
    batch_size: int,
    learning_rate: float,
    after_step: Callable[[int], object] | None = None,
) -> float | None:
    """Train by AdamW, without weight decay, at a constant rate, and a head at its own.

    Args:
        model: As :func:`start_adapter` leaves it.
        examples: Of all steps, in order.
        batch_size: Examples a step.
        learning_rate: Of all steps.
        after_step: Called with how many steps have been made, after each.

    Returns:
        The mean loss of the last steps, nats per label; None once a step's loss is not finite, where training ends.
    """
    parts: dict[bool, list[Tensor]] = {False: [], True: []}  # the adapter, and the head if there is one
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts[".modules_to_save." in name].append(parameter)
    groups: list[dict[str, Any]] = [{"params": parts[False]}, {"params": parts[True], "lr": _HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    model.eval()
    for step, batch in enumerate(examples.split(batch_size), start=1):
        loss = batch.losses(model).mean()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            return None
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step(step)
    return sum(losses[-_LAST:]) / len(losses[-_LAST:])


@torch.no_grad()
def measure_examples(model: PeftModel, examples: Examples, batch_size: int = 16) -> list[float]:
    """Measure each example's loss, nats per label."""
    model.eval()
    return [float(loss) for batch in examples.split(batch_size) for loss in batch.losses(model)]
