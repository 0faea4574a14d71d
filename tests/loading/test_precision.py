"""Bases in 4 and 8 bits, loaded, foreseen, calibrated and trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from command import call
from folders import sums_file, tiny_model_folder
from lora_da.loading.data.examples import prepare_examples
from lora_da.loading.data.row_format import RowFormat
from lora_da.loading.data.rows import load_rows
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_model
from lora_da.loading.precision import bits, compute_dtype
from lora_da.workflows.model_outline import model_outline
from lora_da.workflows.settings import AdapterShape

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sums_file(tmp_path_factory.mktemp("data") / "sums.jsonl", count=60))


def bytes_of(model: Any) -> int:
    total = 0
    for parameter in model.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += state.absmax.numel() * state.absmax.element_size()
            total += state.state2.absmax.numel() * state.state2.absmax.element_size()
    return total


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["8bit", "4bit"])
def test_memory_of_the_weights_is_foreseen(dtype: str, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4
    )
    folder = tiny_model_folder(tmp_path / "model")  # for its tokenizer
    LlamaForCausalLM(config).save_pretrained(folder)
    loaded = load_model(ModelSource(str(folder), dtype, "cpu"))
    outline = model_outline(ModelSource(str(folder), dtype), AdapterShape(), 1, 5)
    assert outline.model_bytes == pytest.approx(bytes_of(loaded.model), rel=0.01)
    assert outline.dtype == loaded.model.dtype == torch.bfloat16
    full = model_outline(ModelSource(str(folder), "bfloat16"), AdapterShape(), 1, 5)
    assert outline.model_bytes < 0.6 * full.model_bytes
    assert outline.shapes == full.shapes


@needs_bitsandbytes
def test_a_model_saved_in_4_bits_is_known_from_its_configuration(model: str, tmp_path: Path) -> None:
    load_model(ModelSource(model, "4bit", "cpu")).model.save_pretrained(tmp_path / "saved")
    tiny_model_folder(tmp_path / "other")
    for file in (tmp_path / "other").glob("tokenizer*"):
        file.rename(tmp_path / "saved" / file.name)
    saved = ModelSource(str(tmp_path / "saved"))
    outlines = [model_outline(source, AdapterShape(), 1, 5) for source in (saved, ModelSource(model, "4bit"))]
    assert outlines[0].model_bytes == outlines[1].model_bytes
    assert type(load_model(saved).model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"


def test_bits_of_other_libraries() -> None:
    cases: list[tuple[dict[str, Any], int | None]] = [
        ({"quant_method": "gptq", "bits": 4}, 4),
        ({"quant_method": "awq", "bits": 8}, 8),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "other"}, None),
    ]
    for saved, wanted in cases:
        config = LlamaConfig(**dict[str, Any](quantization_config=saved))
        assert bits("auto", config) == wanted
        assert bits("4bit", config) == 4
    assert bits("auto", LlamaConfig()) is None
    assert compute_dtype("auto", LlamaConfig(dtype="float16")) == torch.float16
    assert compute_dtype("4bit", LlamaConfig(dtype="float16")) == torch.bfloat16


@needs_bitsandbytes
def test_gradients_pass_after_an_evaluation(model: str) -> None:
    loaded = load_model(ModelSource(model, "4bit", "cpu"))
    layer = loaded.model.model.layers[0].mlp.up_proj
    inputs = torch.randn(3, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        before = layer(inputs)
    after = layer(inputs.requires_grad_(True))
    after.sum().backward()
    assert torch.equal(before, after)
    assert inputs.grad is not None
    assert bool(inputs.grad.any())


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["8bit", "4bit"])
def test_an_adapter_made_on_it_trains_on_it(dtype: str, model: str, data: str, tmp_path: Path) -> None:
    how: tuple[object, ...] = ("--data", data, "--device", "cpu", "--examples", 16)
    call("init", model, *how, "--dtype", dtype, "--output", tmp_path / "adapter")
    loaded = load_model(ModelSource(model, dtype, "cpu"))
    peft_model = PeftModel.from_pretrained(loaded.model, tmp_path / "adapter", is_trainable=True)
    (batch,) = prepare_examples(load_rows(data), loaded.tokenizer, RowFormat()).batches(60)
    optimiser = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = peft_model(**batch).loss
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0] - 0.05
    # The base is in full precision in the folder; quantising it moved what LoRA-DA found.
    call("init", model, *how, "--output", tmp_path / "full")
    initial, full = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("adapter", "full"))
    assert any(not torch.allclose(initial[name], full[name], atol=1e-4) for name in initial)
    assert AutoModelForCausalLM.from_pretrained(model).dtype == torch.float32


def test_what_is_not_installed_is_named(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    for command in ("plan", model), ("init", model, "--data", data, "--output", tmp_path / "out"):
        with pytest.raises(
            ModuleNotFoundError, match=r"4bit needs bitsandbytes, which is not installed: pip install .*\[quantised\]'"
        ):
            call(*command, "--dtype", "4bit")
    assert not (tmp_path / "out").exists()
