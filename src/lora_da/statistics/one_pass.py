"""One forward and one backward pass over the examples, with every parameter frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lora_da.config import CollectionConfig
from lora_da.statistics.accumulator import Accumulator, Place
from lora_da.statistics.batches.indices import check_indices
from lora_da.statistics.batches.padding.locator import TokenLocator
from lora_da.statistics.batches.positions import PositionCheck
from lora_da.statistics.batches.separation import SeparationCheck
from lora_da.statistics.estimation_mode import embeddings_with_gradient, estimation_mode
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.layers import Layer, find_device
from lora_da.statistics.losses.objective import Objective
from lora_da.statistics.running_sums import RunningSums
from lora_da.statistics.sums import ModelIdentity, Statistics
from lora_da.system.random_state import preserve_random_state

# Gradients of summed losses are of the order of 1e-3 and reach down to 1e-8, where float16 has no numbers left.
_FLOAT16_LOSS_SCALE = 1024.0

AfterBatch = Callable[[Callable[[], Statistics]], None]
"""What is called after each batch, with a function that gives the statistics so far."""


@dataclass(frozen=True)
class Procedure:
    """How a pass is made; the result does not depend on it.

    Attributes:
        place: Where the sums are kept, see :class:`lora_da.statistics.accumulator.Accumulator`.
        compensated: Whether they carry along what rounding takes off them.
        repeats: How often the last batch is run once more without counting, to keep step with other processes.
        progress: Whether to show a progress bar.
        description: What the progress bar says.
        halved: The layers whose gradients are also kept for half of the examples.
        agree: Whether any process of the job does, given whether this one does; where the weights are shared, the
            processes have to run the model together.
    """

    place: Place = "device"
    compensated: bool = False
    repeats: int = 0
    progress: bool = True
    description: str = "statistics"
    halved: tuple[str, ...] = ()
    agree: Callable[[bool], bool] = bool


class OnePass:
    """Collects the sums of some layers over some batches.

    Nothing of the model changes: its modes, its parameters' ``requires_grad``, its hooks and all random states are as
    before, also after an exception.
    """

    def __init__(
        self,
        objective: Objective,
        layers: Mapping[str, Layer],
        config: CollectionConfig,
        procedure: Procedure | None = None,
        identity: ModelIdentity | None = None,
    ) -> None:
        """Prepare empty sums of linear layers, by their names in a model with no adapter active."""
        self._objective, self._layers, self._config = objective, layers, config
        self._procedure, self._identity = procedure or Procedure(), identity or ModelIdentity()
        halves = any(parameter.dtype == torch.float16 for parameter in objective.model.parameters())
        self._loss_scale = _FLOAT16_LOSS_SCALE if halves else 1.0
        accumulator = Accumulator(self._procedure.place, compensated=self._procedure.compensated)
        self._sums = self._new_sums(accumulator)
        called = objective.model, objective.called, objective.device
        self._separation = SeparationCheck(*called)
        self._positions = PositionCheck(*called, self._procedure.agree)
        self._locator = TokenLocator(*called, layers, self._procedure.agree)
        self._examples, self._loss_sum = 0, 0.0

    def run(
        self,
        batches: Sequence[Mapping[str, Any]],
        start: Statistics | None = None,
        after_batch: AfterBatch | None = None,
    ) -> Statistics:
        """Run the model forward and backward over all examples of some batches.

        What an earlier pass for the same layers has collected is the ``start``; its tensors may be taken over.

        Returns:
            The sums of the layers that the loss depends on.

        Raises:
            ValueError: There is no example, one without a label, a loss or sum that is not finite, or a batch that
                can't be used; the message says which.
        """
        if not batches:
            raise ValueError("the data loader gave no batch: there is nothing to estimate from")
        if start is not None:
            self._resume(start)
        model, recorder = self._objective.model, Recorder(self._layers, self._sums)
        *ends, total = accumulate(map(self._objective.count_examples, batches), initial=self._examples)
        half = min(ends[1:], key=lambda end: abs(end - total / 2), default=0)
        with (
            preserve_random_state(),
            estimation_mode(model),
            embeddings_with_gradient(model),
            self._progress_bar(total) as bar,
        ):
            with recorder.attached():
                for batch in batches:
                    self._read(batch, recorder)
                    if self._examples == half and not self._sums.half.examples:
                        self._sums.keep_half(self._procedure.halved, half)
                    bar.update(self._objective.count_examples(batch))
                    if after_batch is not None:
                        after_batch(self._statistics)
            for _ in range(self._procedure.repeats):
                spare = Recorder(self._layers, self._new_sums())
                with spare.attached():
                    self._differentiate(batches[-1], spare)
        self._sums.finish()
        return self._statistics()

    def _new_sums(self, accumulator: Accumulator | None = None) -> RunningSums:
        full = self._config.output_factor == "full"
        return RunningSums(full_output=full, loss_scale=self._loss_scale, accumulator=accumulator)

    def _resume(self, start: Statistics) -> None:
        self._examples, self._loss_sum = start.examples, start.loss_sum
        self._locator.wholly_counted |= set(start.wholly_counted)
        beside = self._procedure.place == "device"
        cpu = torch.device("cpu")
        self._sums.resume(start, {name: find_device(layer) if beside else cpu for name, layer in self._layers.items()})

    def _progress_bar(self, total: int) -> Any:
        return tqdm(
            total=total,
            initial=self._examples,
            desc=self._procedure.description,
            unit="example",
            disable=not self._procedure.progress,
        )

    def _read(self, batch: Mapping[str, Any], recorder: Recorder) -> None:
        try:
            self._separation.check(batch)
            losses = self._differentiate(batch, recorder)
        except ValueError as error:
            raise ValueError(f"in the batch that starts at example {self._examples}: {error}") from error
        self._loss_sum += float(losses.sum())
        self._examples += len(losses)

    def _differentiate(self, batch: Mapping[str, Any], recorder: Recorder) -> Tensor:
        objective = self._objective
        of_model = objective.of_model(batch)
        with check_indices(objective.model), self._locator.locate(of_model) as rows_of:
            inputs = objective.prepare(batch, positions=self._positions.needed(of_model))
            with recorder.batch(rows_of), torch.enable_grad():
                return objective.differentiate(batch, inputs, self._layers, self._loss_scale)

    def _statistics(self) -> Statistics:
        """The statistics so far."""
        sums = self._sums
        sums.wait()
        reached = [name for name in self._layers if name in sums.tokens]
        return Statistics(
            gradient_sums={name: sums.gradient_sums[name] for name in reached},
            output_sums={name: sums.output_sums[name] for name in reached},
            input_sums=sums.input_sums,
            input_groups={name: sums.input_groups[name] for name in reached},
            tokens={name: sums.tokens[name] for name in reached},
            examples=self._examples,
            loss_sum=self._loss_sum,
            config=self._config,
            model=self._identity,
            batch_dependent=self._objective.couples_examples,
            wholly_counted=tuple(name for name in reached if name in self._locator.wholly_counted),
            half=sums.half,
        )
