"""The loss of the calibration examples, by forward passes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tqdm.auto import tqdm

from lora_da.statistics.batches.padding.probe import Agree
from lora_da.statistics.batches.positions import PositionCheck
from lora_da.statistics.batches.separation import SeparationCheck
from lora_da.statistics.estimation_mode import estimation_mode
from lora_da.statistics.losses.objective import Objective
from lora_da.system.random_state import preserve_random_state


def measure_calibration_loss(
    objective: Objective,
    batches: Iterable[Mapping[str, Any]],
    *,
    progress: bool = True,
    repeats: int = 0,
    agree: Agree = bool,
) -> tuple[float, int]:
    """Sum the losses of the examples of some batches, in nats, and count the examples.

    The model's adapters stay as they are. The last batch is run ``repeats`` times more without counting, to keep step
    with other processes, and ``agree`` tells whether any of them needs a run of its own.

    Raises:
        ValueError: A batch can't be used.
    """
    total, examples = 0.0, 0
    model, device = objective.model, objective.device
    separation = SeparationCheck(model, objective.called, device)
    positions = PositionCheck(model, objective.called, device, agree)
    with preserve_random_state(), estimation_mode(model), torch.no_grad():
        for batch in tqdm(batches, desc="loss after the init", unit="batch", disable=not progress):
            separation.check(batch)
            inputs = objective.prepare(batch, positions=positions.needed(objective.of_model(batch)))
            losses = objective.evaluate(batch, inputs)
            total, examples = total + float(losses.sum()), examples + len(losses)
        for _ in range(repeats):
            objective.called(**objective.prepare(batch, positions=positions.needed(objective.of_model(batch))))
    return total, examples
