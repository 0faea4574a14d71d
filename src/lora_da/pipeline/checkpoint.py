"""Unfinished statistics on disk, from which a collection that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_da.config import CollectionConfig
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.memory_plan import MemoryPlan
from lora_da.statistics.batches.examples import batch_size
from lora_da.statistics.layers import Layer, ParameterLayer
from lora_da.statistics.losses.example_losses import describe_loss
from lora_da.statistics.storage import load_statistics, save_statistics
from lora_da.statistics.sums import Statistics
from lora_da.system.files import write_text
from lora_da.system.hashing import hash_lines, hash_tensors
from lora_da.system.validation import check_fields, setting


@dataclass(frozen=True)
class Checkpoint:
    """Where unfinished statistics are kept, and how often they are written.

    A file is as large as the sums, and is named after what it belongs to: the same examples, layers, weights and
    settings find it again, others don't.

    Attributes:
        folder: The folder of the files, which is made if it is missing.
        every: The number of batches between two writes.
    """

    folder: Path
    every: int = setting(50, minimum=1)

    def __post_init__(self) -> None:
        check_fields(self)

    def saving(self, file: Path) -> Callable[[Callable[[], Statistics]], None]:
        """Return a function to be called after each batch, which writes ``file`` now and then."""
        batches = 0

        def after_batch(so_far: Callable[[], Statistics]) -> None:
            nonlocal batches
            batches += 1
            if batches % self.every == 0:
                save_statistics(so_far(), file, overwrite=True)

        return after_batch


def find_collection_file(
    source: CalibrationSource, checkpoint: Checkpoint, config: CollectionConfig, *belonging: object
) -> Path:
    """Return the checkpoint's file of a collection; another's are other examples, layers, weights, settings or losses.

    What else tells one collection from another is ``belonging``, things with a ``repr`` that says all.
    """
    processes = source.processes
    place = (processes.rank, processes.size) if processes else (0, 1)
    loss_name = describe_loss(source.example_loss)
    about = (list(source.layers), fingerprint_weights(source.layers.values()), place, config, loss_name, *belonging)
    return checkpoint.folder / f"{hash_lines([repr(about), fingerprint_batches(source.batches)])[:16]}.safetensors"


def fingerprint_batches(batches: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of all tensors of some batches."""
    items = (item for batch in batches for item in batch.items())
    return hash_tensors((key, value) for key, value in items if isinstance(value, Tensor))


def fingerprint_weights(layers: Iterable[Layer]) -> str:
    """Return a digest of some entries of every weight, as this process holds it, and of its precision."""
    texts = []
    for layer in layers:
        module = layer.module if isinstance(layer, ParameterLayer) else layer
        for name, tensor in chain(module.named_parameters(), module.named_buffers()):
            texts.append(f"{name} {type(tensor).__name__} {tensor.dtype} {tuple(tensor.shape)}")
            for part in _held(tensor):
                entries = part.detach().flatten()
                texts.append(repr(entries[:: max(1, len(entries) // 16)][:16].float().tolist()))
    return hash_lines(texts)


def _held(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that a sharded or quantised one is made of in this process."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _held(getattr(tensor, name))
    else:
        yield getattr(tensor, "ds_tensor", tensor)  # DeepSpeed's partition


def save_plan(plan: MemoryPlan, file: Path) -> None:
    """Keep how a collection is made, for a restart."""
    write_text(file, json.dumps(asdict(plan)), overwrite=True)


def load_plan(file: Path) -> MemoryPlan | None:
    """Return how an interrupted collection was made; None if there was none."""
    if not file.is_file():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return MemoryPlan(kept["place"], tuple(map(tuple, kept["passes"])), tuple(kept["bytes"]))


def load_partial(file: Path) -> Statistics | None:
    """Return what an earlier collection left in a file; None if there is none."""
    return load_statistics(file) if file.is_file() else None


def left_to_read(
    batches: Sequence[Mapping[str, Any]],
    done: Statistics | None,
    count_examples: Callable[[Mapping[str, Any]], int] = batch_size,
) -> Sequence[Mapping[str, Any]]:
    """Return the batches that come after the examples that are done."""
    examples, read = done.examples if done else 0, 0
    for index, batch in enumerate(batches):
        if read >= examples:
            return batches[index:]
        read += count_examples(batch)
    return []
