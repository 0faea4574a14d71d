"""How much of a step to start with: the length at which a few examples' loss is lowest, by forward passes alone.

The steps of the layers come from each layer's own share of the Fisher information, as if the others stood still. All of
them together go too far, about as many times as there are layers that mend the same error, and the Fisher information
falls short of the loss's curvature that far away. The best length was 2 (a model of 35 layers) to 1/16 (one of 210) of
one over the layers, so that the search starts between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lora_da.adapter.activation import only_adapter_active
from lora_da.adapter.layers import AdaptedLayer
from lora_da.adapter.sharding import write_parameter
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.loss_measurement import MeasurementError, measure_loss
from lora_da.statistics.batches.examples import batch_size, cut_batch

EXAMPLES = 4
"""How many examples the lengths are compared on."""

_HALVINGS = 4


@dataclass(frozen=True)
class StepLength:
    """A length that was found, with the losses of the examples it was found on.

    Attributes:
        length: The part of the whole step, 0 if none lowers the loss.
        before: Their mean loss at 0, in nats.
        after: Their mean loss at this length.
    """

    length: float
    before: float
    after: float


def search_step_length(
    layers: Mapping[str, AdaptedLayer], adapter_name: str, source: CalibrationSource, steps: Mapping[str, Tensor]
) -> StepLength:
    """Find how much of the layers' steps lowers the loss of a few examples most, and write that much to lora_B.

    In a job of several processes the first one's examples decide.

    Args:
        layers: The adapter's layers.
        adapter_name: The adapter.
        source: The calibration examples, of which the first are taken.
        steps: The whole steps' B (d_out, r) by layer, the same in all processes.

    Raises:
        MeasurementError: A length could not be tried; lora_B is zero then.
    """
    few = _first_examples(source)

    def write(length: float) -> None:
        for name, step in steps.items():
            write_parameter(layers[name].B, length * step)

    def loss(length: float) -> float:
        write(length)
        return measure_loss(few, of_first_process=True)

    try:
        with only_adapter_active(source.base, adapter_name):
            found = find_length(loss, 1 / (8 * max(1, len(steps))))
    except MeasurementError:
        write(0.0)
        raise
    write(found.length)
    return found


def find_length(loss: Callable[[float], float], first: float) -> StepLength:
    """Halve a length while the loss falls or is too high, or else double it; never beyond the whole step.

    Args:
        loss: Of a length; infinite and not a number count as too long.
        first: The first length that is tried, in (0, 1].
    """
    before = loss(0.0)
    best = StepLength(0.0, before, before)
    for halvings in range(_HALVINGS + 1):
        after = loss(length := first / 2**halvings)
        if after < best.after:
            best = StepLength(length, before, after)
        elif best.length:
            break
    length = 2 * first
    while best.length == length / 2 and length <= 1:
        if (after := loss(length)) < best.after:
            best = StepLength(length, before, after)
        length *= 2
    return best


def _first_examples(source: CalibrationSource) -> CalibrationSource:
    """The source with its first examples alone, without a progress bar; what can't be cut stays whole."""
    batches, left = [], EXAMPLES
    for batch in source.batches:
        try:
            batches += cut_batch(batch, left, source.rows_per_example)
        except ValueError:
            batches.append(dict(batch))
        left -= batch_size(batch, source.rows_per_example or 1)
        if left <= 0:
            break
    return dataclasses.replace(source, batches=batches, progress=False)
