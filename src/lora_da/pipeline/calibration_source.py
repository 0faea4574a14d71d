"""What statistics are collected from: a model, some of its layers, and the batches that this process reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import LoraLayer
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lora_da.adapter.entry import open_entry
from lora_da.adapter.layers import AdaptedLayer, find_adapted_layers, find_linear_layers, shape_of_linear
from lora_da.adapter.sharding import has_shards
from lora_da.adapter.wrapping import find_adapter_config, find_base_model, find_entry
from lora_da.distributed.agreement import failing_together
from lora_da.distributed.processes import Processes, current_processes
from lora_da.distributed.shares import count_repeats, select_own_batches
from lora_da.statistics.accumulator import COMPENSATED_ABOVE
from lora_da.statistics.batches.examples import batch_size, find_length
from lora_da.statistics.layers import Layer, find_device
from lora_da.statistics.losses.example_losses import ExampleLoss, couples_examples, find_rows_per_example
from lora_da.statistics.losses.objective import Objective
from lora_da.statistics.sums import Statistics

_BATCH_SIZE = 8  # of a data set that is given with its collator; the result does not depend on it


@dataclass(frozen=True)
class CalibrationSource:
    """A model, its layers to serve, and the calibration examples.

    Attributes:
        model: The model as the user gave it, out of DistributedDataParallel.
        layers: The layers to serve, by their names in the base model.
        shapes: Their (d_out, d_in).
        batches: The batches that this process reads.
        processes: The job, if it is one of several processes.
        example_loss: See :func:`lora_da.collect_statistics`.
        rows_per_example: How many rows of a batch are one example; None where only the loss can tell.
        progress: Whether to show progress bars.
    """

    model: nn.Module
    layers: Mapping[str, Layer]
    shapes: Mapping[str, tuple[int, int]]
    batches: Sequence[Mapping[str, Any]]
    processes: Processes | None
    example_loss: ExampleLoss | None
    rows_per_example: int | None
    progress: bool

    @property
    def base(self) -> nn.Module:
        """The model inside PEFT's and the compiler's wrappers."""
        return find_base_model(self.model)

    @property
    def sharded(self) -> bool:
        """Whether the processes share the weights, so that each of their runs is one of all."""
        return has_shards(self.base)

    @property
    def entry(self) -> nn.Module:
        """The module that is called: sharded weights are gathered by the outermost module alone."""
        return self.model if self.sharded else open_entry(find_entry(self.model), self.base)

    @property
    def objective(self) -> Objective:
        """The model that is called, and the loss of each example."""
        return Objective(self.base, self.example_loss, self.entry, self.rows_per_example)

    @property
    def compensated(self) -> bool:
        """Whether there are so many batches that the sums need to carry their rounding errors along."""
        return len(self.batches) > COMPENSATED_ABOVE

    def counting_rows(self) -> CalibrationSource:
        """Return this source with one row an example where that was open; a loss that has fewer is refused then."""
        return dataclasses.replace(self, rows_per_example=self.rows_per_example or 1)

    def any_needs(self, this_does: bool) -> bool:
        """Tell whether any process needs a run of the model, where the processes make each of them together."""
        if self.processes is None or not self.sharded:
            return this_does
        return any(self.processes.gather_objects(this_does, "finding out how batches are padded"))

    def repeats_of(self, batches: int) -> int:
        """Return how often the last of some batches is run once more, to keep step with the other processes.

        Raises:
            ValueError: The processes share the weights, and one of them has no batch.
        """
        return count_repeats(batches, self.processes) if self.processes is not None and self.sharded else 0

    def failing_together(self) -> AbstractContextManager[None]:
        """Let an error of one process end all of them.

        Where the weights are shared, the others wait for this one's part of them, and can't be told.
        """
        return failing_together(None if self.sharded else self.processes, "collecting statistics")


def open_source(
    model: nn.Module,
    adapted: Mapping[str, AdaptedLayer] | None,
    dataloader: Iterable[Any],
    max_examples: int,
    example_loss: ExampleLoss | None,
    *,
    progress: bool,
) -> CalibrationSource:
    """Read the batches that are this process's share; all processes together read ``max_examples``.

    The layers are those of an adapter or, where that is None, the linear layers of a plain model. The first process's
    progress bars are shown alone.

    Raises:
        ValueError: The model has no linear layer, or a layer no weights, or the processes' loaders don't fit together.
        TypeError: A batch is no mapping.
    """
    layers: dict[str, Layer]
    if adapted is None:
        base = find_base_model(model)
        linear = find_linear_layers(base)
        if not linear:
            raise ValueError(f"{type(base).__name__} has no linear layer")
        layers, shapes = dict(linear), {name: shape_of_linear(layer) for name, layer in linear.items()}
    else:
        layers = {name: layer.base for name, layer in adapted.items()}
        shapes = {name: layer.shape for name, layer in adapted.items()}
    for name, layer in layers.items():
        if find_device(layer).type == "meta":
            raise ValueError(
                f"layer {name} is on the meta device: the model was made without weights, or device_map has "
                "offloaded them to the disk or the CPU, which is not supported; load it onto devices that hold it"
            )
    processes, together = current_processes(), find_rows_per_example(example_loss)
    coupled = couples_examples(example_loss)
    batches = select_own_batches(dataloader, max_examples, processes, together, coupled=coupled)
    progress = progress and (processes is None or processes.rank == 0)
    source = CalibrationSource(model, layers, shapes, batches, processes, example_loss, together, progress)
    read = sum(map(batch_size, batches)) * (processes.size if processes else 1) if together is None else 0
    return source.counting_rows() if read >= max_examples else source


def load_batches(data: Any, collate_fn: Callable[[list[Any]], Any] | None) -> Iterable[Any]:
    """Return what gives batches: the data themselves, or a loader of a data set of examples with its collator.

    Raises:
        TypeError: The data can't be such.
    """
    if isinstance(data, Statistics):
        raise TypeError("statistics are not read as batches: give them as statistics=")
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise TypeError(f"the data must give batches one after the other, as a DataLoader does, not {data!r}")
    if collate_fn is None:
        batches: Iterable[Any] = data
        return batches
    if isinstance(data, DataLoader):
        raise TypeError("a DataLoader has its own collator: leave collate_fn out, or give the data set alone")
    if find_length(data) is None and not isinstance(data, IterableDataset):
        data = _Stream(data)
    return DataLoader(data, batch_size=_BATCH_SIZE, collate_fn=collate_fn)


class _Stream(IterableDataset[Any]):
    """A data set that does not know its length, read from its beginning."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)


def find_adapter_if_any(model: nn.Module, adapter_name: str) -> dict[str, AdaptedLayer] | None:
    """Return the layers of a PEFT model's adapter, or None for a plain model.

    Raises:
        ValueError: See :func:`lora_da.adapter.layers.find_adapted_layers`.
    """
    adapted = any(isinstance(module, LoraLayer) for module in model.modules())
    if not adapted and find_adapter_config(model, adapter_name) is None:
        return None
    return find_adapted_layers(model, adapter_name)[0]
