from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from lora_da import CollectionConfig, collect_statistics
from lora_da.pipeline.calibration_source import CalibrationSource, open_source
from lora_da.pipeline.checkpoint import Checkpoint, left_to_read, load_partial, open_partial
from models import batches_of, causal_examples, tiny_llama

BATCHES = batches_of(causal_examples(7), 2)


def source_of(batches: Any = BATCHES) -> CalibrationSource:
    return open_source(tiny_llama(), None, batches, 7, None, progress=False)


def file_of(
    folder: Path, batches: Any = BATCHES, reduction: Literal["sum", "mean"] = "sum", model: str = "", **settings: Any
) -> Path:
    source = source_of(batches)
    partial = open_partial(Checkpoint(folder, **settings), source, CollectionConfig(reduction), model)
    assert partial is not None
    return partial.find_file(source.layers)


def test_a_file_belongs_to_one_collection(tmp_path: Path) -> None:
    """Other weights and losses are those of ``test_collection`` and of ``attacks/test_stale_checkpoints``."""
    first = file_of(tmp_path)
    assert first.parent == tmp_path
    assert file_of(tmp_path, batches_of(causal_examples(7), 2)) == first
    changed = batches_of(causal_examples(7), 2)
    changed[-1]["labels"][0, -1] += 1
    others = {file_of(tmp_path, BATCHES[1:]), file_of(tmp_path, changed), file_of(tmp_path, reduction="mean")}
    assert len(others | {first, file_of(tmp_path, model="other"), file_of(tmp_path, loss_key="other")}) == 6


def test_statistics_are_written_every_so_many_batches(tmp_path: Path) -> None:
    file, examples = tmp_path / "partial.safetensors", []
    after_batch = Checkpoint(tmp_path, every=2).saving(file)
    for count in (2, 4, 6, 7):
        after_batch(lambda count=count: collect_statistics(tiny_llama(), BATCHES, max_examples=count, progress=False))  # type: ignore[misc]
        found = load_partial(file, source_of(), CollectionConfig())
        examples.append(found.examples if found else 0)
    assert examples == [0, 4, 4, 7]


def test_what_is_left_comes_after_what_is_done() -> None:
    done = collect_statistics(tiny_llama(), BATCHES, max_examples=4, progress=False)
    assert len(left_to_read(BATCHES, None)) == len(BATCHES)
    assert [id(batch) for batch in left_to_read(BATCHES, done)] == [id(batch) for batch in BATCHES[2:]]
    everything = collect_statistics(tiny_llama(), BATCHES, progress=False)
    assert list(left_to_read(BATCHES, everything)) == []


def test_never_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Checkpoint\.every must be a number of at least 1, not 0"):
        Checkpoint(tmp_path, every=0)
