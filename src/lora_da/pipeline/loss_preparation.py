"""What a loss needs before the examples are run: which one it is, and what it compares the model with."""

from __future__ import annotations

import dataclasses

import torch

from lora_da.adapter.activation import adapters_disabled
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.statistics.batches.indices import check_indices
from lora_da.statistics.estimation_mode import estimation_mode
from lora_da.statistics.losses.targets import Reduction
from lora_da.system.random_state import preserve_random_state


def prepare_loss(source: CalibrationSource, reduction: Reduction) -> CalibrationSource:
    """Return a source that knows its loss, and whose batches hold what that refers to.

    The model without its adapters runs for both: on a part of one example for a loss that was not given, and on all
    examples for one that has a reference of which the batches don't tell.

    Raises:
        ValueError: The model's own loss is not known, an index is outside of the model's embeddings, or a batch and
            the loss don't fit together.
    """
    refer = getattr(source.example_loss, "refer", None)
    if source.example_loss is not None and refer is None:
        return source
    repeats = source.repeats_of(len(source.batches))
    with (
        source.failing_together(),
        preserve_random_state(),
        adapters_disabled(source.base),
        estimation_mode(source.base),
        check_indices(source.base),
        torch.no_grad(),
    ):
        if refer is not None:
            return _with_reference(source, repeats)
        if source.batches:
            objective = source.objective.settled(source.batches[0], reduction)
            source = dataclasses.replace(source, example_loss=objective.example_loss)
    return source


def _with_reference(source: CalibrationSource, repeats: int) -> CalibrationSource:
    objective, batches = source.objective, []
    refer = getattr(source.example_loss, "refer")  # noqa: B009
    for batch in source.batches:
        batches.append({**batch, **refer(objective.called(**objective.prepare(batch)), batch)})
    for _ in range(repeats):
        objective.called(**objective.prepare(batches[-1]))
    return dataclasses.replace(source, batches=batches)
