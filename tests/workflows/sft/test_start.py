from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command import call, sft_options
from folders import sums_file, tiny_model_folder
from lora_da import load_report
from lora_da.workflows.sft.arguments import parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune


def test_an_adapter_of_init_is_the_start(tmp_path: Path) -> None:
    model, data = str(tiny_model_folder(tmp_path / "model")), str(sums_file(tmp_path / "sums.jsonl"))
    adapter = tmp_path / "adapter"
    call("init", model, "--data", data, "--output", adapter, "--rank", 3, "--examples", 8, "--preset", "released")
    start = load_file(adapter / "adapter_model.safetensors")

    def train(model: str, output: str) -> dict[str, torch.Tensor]:
        options = sft_options(model, data, tmp_path / output, "--lora_da_adapter", adapter, "--learning_rate", 0)
        fine_tune(parse_arguments(options))
        return load_file(tmp_path / output / "adapter_model.safetensors")

    torch.testing.assert_close(train(model, "run"), start, rtol=0, atol=0)
    assert json.loads((tmp_path / "run" / "adapter_config.json").read_text())["r"] == 3
    assert load_report(tmp_path / "run" / "initial_adapter") == load_report(adapter)

    other = str(tiny_model_folder(tmp_path / "other", seed=1))
    with pytest.warns(UserWarning, match=r"renamed from '.*model' to '.*other'"):
        train(other, "on another")
    weights = start | {f"{name}.more": value for name, value in start.items()}
    torch.save(weights, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"does not fit the model .* no layer for"):
        train(model, "with more")
    with pytest.raises(FileNotFoundError, match=r"holds no adapter_config\.json"):
        fine_tune(parse_arguments(sft_options(model, data, tmp_path / "none", "--lora_da_adapter", model)))
