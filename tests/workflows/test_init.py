"""What ``lora-da init`` does within the memory there is, and after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lora_da.pipeline.collection
import lora_da.workflows.init
import lora_da.workflows.plan
from command import call
from lora_da import load_report, load_statistics


def test_a_memory_budget_makes_passes_and_changes_nothing_else(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["init", model, "--data", data, "--examples", "16", "--rank", "2"]
    call(*common, "--output", tmp_path / "whole")
    call(*common, "--output", tmp_path / "parts", "--memory-budget", "60KB")
    assert any("passes over the data" in notice for notice in load_report(tmp_path / "parts").notices)
    whole, parts = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"this does not fit: the sums of layer .* raise the memory budget"):
        call(*common, "--output", tmp_path / "none", "--memory-budget", "100")
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(lora_da.workflows.init, "load_model", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ValueError, match=r"collected in one pass, which takes .* or leave out --save-statistics"):
        call(*common, "--output", tmp_path / "a", "--memory-budget", "60KB", "--save-statistics", tmp_path / "sums")


def test_a_checkpoint_is_written_and_read(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["init", model, "--data", data, "--examples", "16", "--rank", "2", "--batch-size", "4"]
    call(*common, "--output", tmp_path / "whole")
    call(*common, "--output", tmp_path / "first", "--checkpoint", tmp_path / "partial", "--checkpoint-every", "2")
    (file,) = (tmp_path / "partial").glob("*.safetensors")
    assert load_statistics(file, label=file.stem).examples == 16

    monkeypatch.setattr(
        lora_da.pipeline.collection, "OnePass", lambda *_, **__: pytest.fail("nothing is left to collect")
    )
    call(*common, "--output", tmp_path / "again", "--checkpoint", tmp_path / "partial")
    whole, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_what_does_not_fit_is_refused_before_the_model_is_loaded(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_da.workflows.plan, "free_bytes", lambda _device: 1000)
    monkeypatch.setattr(lora_da.workflows.init, "load_model", lambda *_: pytest.fail("the model is loaded"))
    with pytest.raises(
        ValueError, match=r"this does not fit: the model's weights take .* --dtype bfloat16 halves them"
    ):
        call("init", model, "--data", data, "--output", tmp_path / "adapter")
