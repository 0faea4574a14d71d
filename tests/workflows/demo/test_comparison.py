"""The whole demo, with a tiny model in place of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import call
from folders import tiny_model_folder
from lora_da.workflows.demo import comparison as module
from lora_da.workflows.demo.arithmetic import make_problems


def test_demo_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_problems", lambda held_out, seed: make_problems(40, held_out, seed))
    model = tiny_model_folder(tmp_path / "model")
    options = ["--output", tmp_path / "demo", "--quick", "--steps", "16", "--examples", "16"]
    output = call("demo", "--model", model, *options)
    for said in ("at the start", "LoRA", "LoRA-DA", "rate 1.0e-03", "no evidence"):
        assert said in output
    content = json.loads((tmp_path / "demo" / "demo.json").read_text())
    lora, ours = content["results"]["LoRA"], content["results"]["LoRA-DA"]
    rates = [1e-3 / 10**0.5, 1e-3, 1e-3 * 10**0.5]
    for result in (lora, ours):
        assert [float(rate) for rate in result["ends"]] == pytest.approx(rates)
        losses = [result["start"], *result["ends"].values()]
        assert losses == sorted(losses, reverse=True)  # higher rates go further, so early, and each begins anew
    assert ours["start"] < lora["start"]
    assert lora["init_seconds"] == 0 < ours["init_seconds"]
    assert (tmp_path / "demo" / "loss.png").read_bytes().startswith(b"\x89PNG")
    for name in ("lora", "lora-da"):
        assert (tmp_path / "demo" / name / "adapter_model.safetensors").is_file()
    with pytest.raises(FileExistsError, match="--overwrite"):
        call("demo", "--model", model, *options)
