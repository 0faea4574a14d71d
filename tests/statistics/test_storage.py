from __future__ import annotations

import errno
import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_da import CollectionConfig, Statistics, collect_statistics, load_statistics, save_statistics
from lora_da.statistics import storage
from models import batches_of, causal_examples, tiny_gpt2, tiny_llama


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    examples: Any = causal_examples(6)
    loader: Any = torch.utils.data.DataLoader(examples, batch_size=1)  # which knows how many there are
    config = CollectionConfig(output_factor="full", loss_reduction="mean")
    return collect_statistics(tiny_llama(), loader, config, progress=False)


def _same(first: Statistics, second: Statistics) -> None:
    for kind in ("gradient_sums", "output_sums", "input_sums", "half.gradient_sums"):
        mine, others = attrgetter(kind)(first), attrgetter(kind)(second)
        assert mine.keys() == others.keys()
        for name, tensor in mine.items():
            assert tensor.dtype == others[name].dtype
            assert torch.equal(tensor, others[name])
    for field in ("layers", "input_groups", "tokens", "examples", "loss_sum", "config", "population_size"):
        assert getattr(first, field) == getattr(second, field), field
    assert first.half.examples == second.half.examples
    assert first.batch_dependent is second.batch_dependent
    assert (first.model.name, first.model.revision) == (second.model.name, second.model.revision)
    assert torch.equal(first.model.signature, second.model.signature)


def test_a_round_trip_changes_no_bit(statistics: Statistics, tmp_path: Path) -> None:
    assert statistics.population_size == 6
    assert statistics.half.examples == 3
    save_statistics(statistics, tmp_path / "s.safetensors")
    _same(statistics, load_statistics(str(tmp_path / "s.safetensors")))


def test_float64_sums_and_transposed_layers_keep_their_bits(tmp_path: Path) -> None:
    found = collect_statistics(tiny_gpt2().double(), batches_of(causal_examples(3)), progress=False)
    save_statistics(found, tmp_path / "deep" / "s.safetensors")
    _same(found, load_statistics(tmp_path / "deep" / "s.safetensors"))


def test_an_existing_file_is_kept_unless_asked(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="exists already"):
        save_statistics(statistics, path)
    assert path.read_bytes() == b"old"
    save_statistics(statistics, path, overwrite=True)
    _same(statistics, load_statistics(path))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    statistics: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"old")

    def full(_tensors: Any, target: Any, *_args: Any, **_kwargs: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_statistics(statistics, path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no statistics file .*nothing"):
        load_statistics(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no statistics file"):
        load_statistics(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_file(statistics: Statistics, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "s.safetensors"
    save_statistics(statistics, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"s\.safetensors is truncated or not a safetensors file"):
        load_statistics(path)


def test_foreign_files(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    save_file({"weight": torch.zeros(2)}, tmp_path / "bare.safetensors")
    for name in ("foreign", "bare"):
        with pytest.raises(ValueError, match=f"{name}.safetensors is a safetensors file, but not one with lora-da"):
            load_statistics(tmp_path / f"{name}.safetensors")
    (tmp_path / "text").write_text("these are no statistics, but a text that is long enough")
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        load_statistics(tmp_path / "text")


def _rewrite(path: Path, drop: str | None = None, **about: Any) -> None:
    """As version 1 wrote files, which have no digest."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["lora-da-statistics"])
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file(tensors, path, metadata={"lora-da-statistics": json.dumps(metadata | {"version": 1} | about)})


def test_a_later_version_and_a_lost_part(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_statistics(statistics, path)
    _rewrite(path, drop=f"output/{statistics.layers[0]}")
    with pytest.raises(ValueError, match=r"lacks a part of the statistics.*output/model\.layers\.0"):
        load_statistics(path)
    save_statistics(statistics, path, overwrite=True)
    _rewrite(path, version=3)
    with pytest.raises(ValueError, match="has version 3 of the format; this lora-da reads up to 2"):
        load_statistics(path)


def test_changed_content_is_damage(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_statistics(statistics, path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.safetensors is damaged.* Collect the statistics anew"):
        load_statistics(path)
    save_statistics(statistics, path, overwrite=True)
    _rewrite(path, version=2)
    with pytest.raises(ValueError, match=r"s\.safetensors is damaged"):
        load_statistics(path)


def test_a_part_is_not_taken_for_a_whole(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_statistics(statistics, path, label="a part")
    _same(statistics, load_statistics(path, label="a part"))
    for label, said in ((None, "not to nothing"), ("another", "not to another")):
        with pytest.raises(ValueError, match=f"belongs to a part, {said}"):
            load_statistics(path, label=label)


def test_files_of_version_0_1(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_statistics(statistics, path)
    config = {"loss_reduction": "mean", "output_factor": "full", "accumulation_dtype": "float32"}
    _rewrite(path, config=config | {"counted_tokens": "attended"})
    _same(statistics, load_statistics(path))
    _rewrite(path, config=config | {"counted_tokens": "labels"})
    with pytest.raises(ValueError, match=r"0\.1 with counted_tokens='labels', and now all attended .*: collect.* anew"):
        load_statistics(path)
