"""What some losses compare a model with: entries of the batches that the base model, without any adapter, gives."""

from __future__ import annotations

import dataclasses

import torch

from lora_da.adapter.activation import adapters_disabled
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.statistics.estimation_mode import estimation_mode
from lora_da.system.random_state import preserve_random_state


def with_reference(source: CalibrationSource) -> CalibrationSource:
    """Return a source whose batches hold what its loss refers to, by one forward pass where that is missing.

    Raises:
        ValueError: A batch and the loss don't fit together.
    """
    refer = getattr(source.example_loss, "refer", None)
    if refer is None:
        return source
    objective, batches = source.objective, []
    with (
        source.failing_together(),
        preserve_random_state(),
        adapters_disabled(source.base),
        estimation_mode(source.base),
        torch.no_grad(),
    ):
        for batch in source.batches:
            found = refer(objective.called(**objective.prepare(batch)), batch)
            batches.append({**batch, **found})
        for _ in range(source.repeats_of(len(source.batches))):
            objective.called(**objective.prepare(source.batches[-1]))
    return dataclasses.replace(source, batches=batches)
