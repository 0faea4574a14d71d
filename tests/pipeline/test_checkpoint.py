from __future__ import annotations

from pathlib import Path

import pytest

from lora_da import CollectionConfig, collect_statistics
from lora_da.pipeline.checkpoint import Checkpoint, fingerprint_of, left_to_read, load_partial
from models import batches_of, causal_examples, tiny_llama

BATCHES = batches_of(causal_examples(7), 2)


def test_a_file_belongs_to_one_collection(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    first = checkpoint.file(BATCHES, ["layer"], CollectionConfig())
    assert first == checkpoint.file(batches_of(causal_examples(7), 2), ["layer"], CollectionConfig())
    assert first.parent == tmp_path
    others = {
        checkpoint.file(BATCHES[1:], ["layer"], CollectionConfig()),
        checkpoint.file(BATCHES, ["other"], CollectionConfig()),
        checkpoint.file(BATCHES, ["layer"], CollectionConfig("mean")),
    }
    assert len(others | {first}) == 4


def test_fingerprints_see_every_batch() -> None:
    changed = batches_of(causal_examples(7), 2)
    changed[-1]["labels"][0, -1] += 1
    assert fingerprint_of(BATCHES) == fingerprint_of(batches_of(causal_examples(7), 2)) != fingerprint_of(changed)


def test_statistics_are_written_every_so_many_batches(tmp_path: Path) -> None:
    file, examples = tmp_path / "partial.safetensors", []
    after_batch = Checkpoint(tmp_path, every=2).saving(file)
    for count in (2, 4, 6, 7):
        after_batch(lambda count=count: collect_statistics(tiny_llama(), BATCHES, max_examples=count, progress=False))  # type: ignore[misc]
        found = load_partial(file)
        examples.append(found.examples if found else 0)
    assert examples == [0, 4, 4, 7]


def test_what_is_left_comes_after_what_is_done() -> None:
    done = collect_statistics(tiny_llama(), BATCHES, max_examples=4, progress=False)
    assert len(left_to_read(BATCHES, None)) == len(BATCHES)
    assert [id(batch) for batch in left_to_read(BATCHES, done)] == [id(batch) for batch in BATCHES[2:]]
    everything = collect_statistics(tiny_llama(), BATCHES, progress=False)
    assert list(left_to_read(BATCHES, everything)) == []


def test_never_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Checkpoint(tmp_path, every=0)
