"""Unfinished statistics on disk, from which a collection that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from lora_da.adapter.identity import identify_model
from lora_da.config import CollectionConfig
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.memory_plan import MemoryPlan
from lora_da.statistics.accumulator import Place
from lora_da.statistics.batches.examples import batch_size
from lora_da.statistics.losses.example_losses import ExampleLoss, describe_settings, name_loss
from lora_da.statistics.storage import load_statistics, save_statistics
from lora_da.statistics.sums import Statistics
from lora_da.system.files import write_text
from lora_da.system.hashing import hash_batches, hash_lines
from lora_da.system.validation import check_fields, setting


@dataclass(frozen=True)
class Checkpoint:
    """Where unfinished statistics are kept, and how often they are written.

    A file is as large as the sums, and is named after what it belongs to: the same examples, layers, weights, buffers,
    settings, loss and software find it again, others don't.

    Attributes:
        folder: The folder of the files, which is made if it is missing.
        every: The number of batches between two writes.
        loss_key: What tells an ``example_loss`` of your own from others, such as "focal, γ = 2": give another text
            whenever the function computes something else, which can't be seen from outside. The losses of
            ``lora_da.losses`` need none, but for a ``Distillation`` with a teacher.
    """

    folder: Path
    every: int = setting(50, minimum=1)
    loss_key: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def check_loss(self, loss: ExampleLoss | None) -> None:
        """Refuse a loss whose statistics could be taken for those of another one.

        Raises:
            ValueError: It is one's own, and there is no ``loss_key``.
        """
        if describe_settings(loss) is None and not self.loss_key:
            raise ValueError(
                f"a checkpoint can't tell the loss {name_loss(loss)} from what it was before a change: give "
                "Checkpoint(loss_key=…), a text that you change whenever the loss computes something else, or no "
                "checkpoint"
            )

    def saving(self, file: Path) -> Callable[[Callable[[], Statistics]], None]:
        """Return a function to be called after each batch, which writes ``file`` now and then."""
        batches = 0

        def after_batch(so_far: Callable[[], Statistics]) -> None:
            nonlocal batches
            batches += 1
            if batches % self.every == 0:
                save_partial(so_far(), file)

        return after_batch


@dataclass(frozen=True)
class Partial:
    """The files of one process's part of one collection.

    Attributes:
        checkpoint: Where and how often they are written.
        belonging: A digest of all that the collection is made from but the layers.
    """

    checkpoint: Checkpoint
    belonging: str

    def find_file(self, layers: Iterable[str], *more: object) -> Path:
        """Return the file for some layers and for what ``more`` tells one from another, with a ``repr`` of all."""
        name = hash_lines([self.belonging, repr((list(layers), more))])[:16]
        return self.checkpoint.folder / f"{name}.safetensors"


def open_partial(
    checkpoint: Checkpoint | None, source: CalibrationSource, config: CollectionConfig, model: str
) -> Partial | None:
    """Return the files of a collection, where there is a checkpoint.

    Args:
        checkpoint: Where they are.
        source: What the statistics are collected from, with its loss settled.
        config: The settings.
        model: A digest of the model and the software.
    """
    if checkpoint is None:
        return None
    processes = source.processes
    place = (processes.rank, processes.size) if processes else (0, 1)
    loss = (name_loss(source.example_loss), checkpoint.loss_key, source.rows_per_example)
    return Partial(checkpoint, hash_lines([model, repr((place, config, loss)), hash_batches(source.batches)]))


def save_plan(plan: MemoryPlan, file: Path) -> None:
    """Keep how a collection is made, for a restart."""
    write_text(file, json.dumps(asdict(plan)), overwrite=True)


def load_plan(file: Path, layers: Iterable[str]) -> MemoryPlan | None:
    """Return how an interrupted collection of some layers was made; None if there was none.

    Raises:
        ValueError: The file holds something else; the message names it.
    """
    if not file.is_file():
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        plan = MemoryPlan(kept["place"], tuple(map(tuple, kept["passes"])), tuple(kept["bytes"]), tuple(kept["halved"]))
        planned = sorted(name for names in plan.passes for name in names)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove it to start anew") from error
    if planned != sorted(layers) or plan.place not in get_args(Place) or len(plan.bytes) != len(plan.passes):
        raise ValueError(f"{file} does not say how these layers are collected: remove it to start anew")
    return plan


def save_partial(statistics: Statistics, file: Path) -> None:
    """Write unfinished statistics to a file that says which one it is."""
    save_statistics(statistics, file, overwrite=True, label=file.stem)


def load_partial(file: Path, source: CalibrationSource, config: CollectionConfig) -> Statistics | None:
    """Return what an earlier collection from the same source left in a file; None if there is none.

    Raises:
        ValueError: The file holds something else; the message names it.
    """
    if not file.is_file():
        return None
    try:
        found = load_statistics(file, label=file.stem)
        fault = _fault_of(found, source, config)
    except ValueError as error:
        fault = str(error)
    if fault is not None:
        raise ValueError(f"the checkpoint {file} can't be gone on from: {fault}. Remove it to start anew")
    return found


def _fault_of(found: Statistics, source: CalibrationSource, config: CollectionConfig) -> str | None:
    """Why statistics can't be what a collection from a source has left; None if they can."""
    if found.config != config:
        return f"it was collected with {found.config}, not {config}"
    # To gather sharded weights, all processes would have to come here.
    if not source.sharded and not found.model.matches(identify_model(source.base)):
        return "it is of another model"
    for name in found.layers:
        shape = tuple(found.gradient_sums[name].shape)
        if shape != source.shapes.get(name) or name not in source.layers:
            return f"it has a layer {name} of shape {shape}, and the collection {source.shapes.get(name, 'none')}"
    left_to_read(source.batches, found, source.objective.count_examples)
    return None


def left_to_read(
    batches: Sequence[Mapping[str, Any]],
    done: Statistics | None,
    count_examples: Callable[[Mapping[str, Any]], int] = batch_size,
) -> Sequence[Mapping[str, Any]]:
    """Return the batches that come after the examples that are done.

    Raises:
        ValueError: These don't end where a batch does.
    """
    examples, read, count = done.examples if done else 0, 0, 0
    while read < examples and count < len(batches):
        read += count_examples(batches[count])
        count += 1
    if read != examples:
        raise ValueError(f"{examples} examples were read, which no number of the batches holds")
    return batches[count:]
