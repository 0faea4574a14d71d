"""Adapters from statistics on disk, without data and without the weights of the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command import call
from folders import tiny_model_folder
from lora_da import load_report, load_statistics


@pytest.fixture(scope="module")
def adapter(model: str, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter from data, beside the statistics that it was made from."""
    folder = tmp_path_factory.mktemp("out") / "adapter"
    options = ["--data", data, "--output", folder, "--rank", 4, "--examples", 16]
    call("init", model, *options, "--save-statistics", folder.parent / "sums.safetensors")
    return folder


def test_solving_saved_statistics_gives_the_same_a_without_a_step(model: str, adapter: Path, tmp_path: Path) -> None:
    statistics = adapter.parent / "sums.safetensors"
    call("init", model, "--statistics", statistics, "--rank", 4, "--output", tmp_path / "again")
    call("init", model, "--statistics", statistics, "--rank", 2, "--output", tmp_path / "smaller")
    first, again = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, tmp_path / "again"))
    assert first.keys() == again.keys()
    for key, tensor in first.items():
        torch.testing.assert_close(again[key], tensor if "lora_A" in key else torch.zeros_like(tensor))
    smaller = load_file(tmp_path / "smaller" / "adapter_model.safetensors")
    assert {tensor.shape[0] for key, tensor in smaller.items() if "lora_A" in key} == {2}
    assert load_statistics(statistics).examples == 16


def test_statistics_of_another_model_are_refused(model: str, adapter: Path, tmp_path: Path) -> None:
    other = tiny_model_folder(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="belong to another model"):
        call("init", other, "--statistics", adapter.parent / "sums.safetensors", "--output", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    same = shutil.copytree(model, tmp_path / "moved")
    call("init", same, "--statistics", adapter.parent / "sums.safetensors", "--output", tmp_path / "x")


def test_statistics_of_some_layers_make_an_adapter_on_these(model: str, data: str, tmp_path: Path) -> None:
    sums = tmp_path / "sums.safetensors"
    some = ["--target-modules", "q_proj,v_proj", "--output", tmp_path / "some", "--save-statistics", sums]
    call("init", model, "--data", data, "--examples", 8, *some)
    with pytest.warns(
        UserWarning, match="the statistics have no mlp.down_proj, .* on self_attn.q_proj,self_attn.v_proj"
    ):
        call("init", model, "--statistics", sums, "--output", tmp_path / "again")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("some", "again"))
    assert one.keys() == other.keys()
    assert load_report(tmp_path / "again").kept_default == {}
