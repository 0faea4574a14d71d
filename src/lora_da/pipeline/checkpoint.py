"""Unfinished statistics on disk, from which a collection that was interrupted goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_da.pipeline.memory_plan import MemoryPlan
from lora_da.statistics.batches.examples import batch_size
from lora_da.statistics.hooks.experts import Layer, ParameterLayer
from lora_da.statistics.storage import load_statistics, save_statistics
from lora_da.statistics.sums import Statistics
from lora_da.system.files import write_text


@dataclass(frozen=True)
class Checkpoint:
    """Where unfinished statistics are kept, and how often they are written.

    A file is as large as the sums, and is named after what it belongs to: the same examples, layers, weights and
    settings find it again, others don't.

    Attributes:
        folder: The folder of the files; made if missing.
        every: Batches between two writes.
    """

    folder: Path
    every: int = 50

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"a checkpoint is written every so many batches, at least 1, not {self.every}")

    def file(self, batches: Iterable[Mapping[str, Any]], *belonging: object) -> Path:
        """The file of the statistics of some batches.

        Args:
            batches: All that are to be read.
            belonging: What else tells one collection from another, as things with a ``repr`` that says all.
        """
        digest = hashlib.sha256(repr(belonging).encode())
        digest.update(fingerprint_of(batches).encode())
        return self.folder / f"{digest.hexdigest()[:16]}.safetensors"

    def saving(self, file: Path) -> Callable[[Callable[[], Statistics]], None]:
        """A function to be called after each batch, which writes ``file``."""
        batches = 0

        def after_batch(so_far: Callable[[], Statistics]) -> None:
            nonlocal batches
            batches += 1
            if batches % self.every == 0:
                save_statistics(so_far(), file, overwrite=True)

        return after_batch


def fingerprint_of(batches: Iterable[Mapping[str, Any]]) -> str:
    """A SHA-256 of all tensors."""
    digest = hashlib.sha256()
    for batch in batches:
        for key, value in batch.items():
            if isinstance(value, Tensor):
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of_weights(layers: Iterable[Layer]) -> str:
    """A SHA-256 of some entries of every weight, as this process holds it, and of its precision."""
    digest = hashlib.sha256()
    for layer in layers:
        module = layer.module if isinstance(layer, ParameterLayer) else layer
        for name, tensor in chain(module.named_parameters(), module.named_buffers()):
            digest.update(f"{name} {type(tensor).__name__} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for part in _held(tensor):
                entries = part.detach().flatten()
                digest.update(repr(entries[:: max(1, len(entries) // 16)][:16].float().tolist()).encode())
    return digest.hexdigest()


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
    """How an interrupted collection was made; None if there was none."""
    if not file.is_file():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return MemoryPlan(kept["place"], tuple(map(tuple, kept["passes"])), tuple(kept["bytes"]))


def load_partial(file: Path) -> Statistics | None:
    """What an earlier collection left in a file; None if there is none."""
    return load_statistics(file) if file.is_file() else None


def left_to_read(batches: Sequence[Mapping[str, Any]], done: Statistics | None) -> Sequence[Mapping[str, Any]]:
    """The batches that come after the examples that are done."""
    examples, read = done.examples if done else 0, 0
    for index, batch in enumerate(batches):
        if read >= examples:
            return batches[index:]
        read += batch_size(batch)
    return []
