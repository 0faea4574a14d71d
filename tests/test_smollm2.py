"""The main job on a real model: SmolLM2-135M-Instruct and GSM8K, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_da import initialize_lora_da_weights, load_report, load_statistics
from lora_da.loading import find_model
from lora_da.workflows.settings import AdapterShape, preset_config

pytestmark = pytest.mark.slow

_RELOAD = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
adapter, base, output = sys.argv[1:]
ids = torch.arange(1, 40)[None]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
with torch.no_grad():
    plain = model(ids).logits
    peft_model = PeftModel.from_pretrained(model, adapter).eval()
    adapted = peft_model(ids).logits
    with peft_model.disable_adapter():
        disabled = peft_model(ids).logits
    merged = peft_model.merge_and_unload()(ids).logits
assert "lora_da" not in sys.modules
torch.save({"plain": plain, "adapted": adapted, "disabled": disabled, "merged": merged}, output)
"""


def test_init_on_gsm8k_reloads_with_plain_peft(tmp_path: Path) -> None:
    try:
        gguf = find_model("smollm2")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if "LORA_DA_DATA" not in os.environ:
        pytest.skip("LORA_DA_DATA is not set: it names the folder that holds gsm8k/train.jsonl")
    data = Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl"
    adapter, sums = tmp_path / "adapter", tmp_path / "sums.safetensors"
    command = [sys.executable, "-m", "lora_da", "init", gguf, "--data", str(data), "--output", str(adapter)]
    command += ["--prompt-column", "question", "--completion-column", "answer", "--examples", "8"]
    subprocess.run([*command, "--save-statistics", str(sums)], check=True)

    report = load_report(adapter)
    assert len(report.layers) == 210
    assert report.population_size == 7473
    assert report.loss_before is not None
    assert report.loss_after is not None
    assert report.loss_after < report.loss_before
    assert max(layer.residual for layer in report.layers.values()) < 1e-6
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(base).name == "SmolLM2-135M-Instruct.Q4_1-safetensors"

    # Solved again from the saved statistics in this process, the same A comes out, and B = 0.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    peft_model = get_peft_model(model, AdapterShape().lora_config()).eval()
    again_report = initialize_lora_da_weights(
        peft_model, config=preset_config("default", 0), statistics=load_statistics(sums)
    )
    assert again_report.step_length == 0
    saved = load_file(adapter / "adapter_model.safetensors")
    for key, again in get_peft_model_state_dict(peft_model).items():
        tensor = saved[key] if "lora_A" in key else torch.zeros_like(saved[key])
        torch.testing.assert_close(again, tensor, rtol=1e-3, atol=1e-3 * float(tensor.abs().max()))
    set_peft_model_state_dict(peft_model, saved)

    # A process that never imports this library computes the same logits, to the bit.
    output = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", _RELOAD, str(adapter), base, str(output)], check=True)
    logits = torch.load(output, weights_only=True)
    with torch.no_grad():
        assert torch.equal(peft_model(torch.arange(1, 40)[None]).logits, logits["adapted"])
    assert torch.equal(logits["plain"], logits["disabled"])
    assert not torch.equal(logits["plain"], logits["adapted"])
    torch.testing.assert_close(logits["merged"], logits["adapted"], rtol=1e-3, atol=1e-3)
