from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from command import call
from lora_da import collect_statistics, load_statistics, save_statistics
from models import batches_of, causal_examples, tiny_llama


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Statistics of two and of three batches."""
    batches, files = batches_of(causal_examples(10), 2), [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, own in zip(files, (batches[:2], batches[2:]), strict=True):
        save_statistics(collect_statistics(tiny_llama(), own, progress=False), file)
    return files


def test_parts_add_up_to_the_whole(parts: list[Path], tmp_path: Path) -> None:
    output = call("merge-statistics", *parts, "--output", tmp_path / "sum.safetensors", "--population-size", "500")
    assert "14 layers, 10 examples" in output
    found = load_statistics(tmp_path / "sum.safetensors")
    wanted = collect_statistics(tiny_llama(), batches_of(causal_examples(10), 2), progress=False)
    assert (found.examples, found.tokens, found.population_size) == (10, wanted.tokens, 500)
    for name in wanted.layers:
        for part in ("gradient_sum", "input_sum", "output_sum"):
            torch.testing.assert_close(getattr(found[name], part), getattr(wanted[name], part), rtol=1e-4, atol=1e-5)


def test_the_population_is_not_guessed(parts: list[Path], tmp_path: Path) -> None:
    call("merge-statistics", *parts, "--output", tmp_path / "sum.safetensors")
    assert load_statistics(tmp_path / "sum.safetensors").population_size is None


def test_what_does_not_add(parts: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_statistics(collect_statistics(tiny_llama(seed=5), batches_of(causal_examples(2)), progress=False), other)
    with pytest.raises(ValueError, match=r"other\.safetensors: statistics of different models"):
        call("merge-statistics", parts[0], other, "--output", tmp_path / "sum.safetensors")
    copy = shutil.copy(parts[0], tmp_path / "copy.safetensors")
    written = tmp_path / "again.safetensors"
    while not written.exists() or written.read_bytes() == parts[0].read_bytes():  # by chance in another order
        save_statistics(load_statistics(parts[0]), written, overwrite=True)
    for again in (parts[0], copy, written):
        with pytest.raises(AssertionError, match="files are the same"):
            call("merge-statistics", parts[0], again, "--output", tmp_path / "sum.safetensors")
    with pytest.raises(AssertionError, match="at least two"):
        call("merge-statistics", parts[0], "--output", tmp_path / "sum.safetensors")
    with pytest.raises(FileExistsError, match="--overwrite"):
        call("merge-statistics", *parts, "--output", other)
    assert not (tmp_path / "sum.safetensors").exists()
