"""Loading models from local folders, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BartConfig, T5Config

from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import LoadedModel, load_config, load_model, load_tokenizer


def load(folder: Path | str, dtype: str = "auto", **how: Any) -> LoadedModel:
    return load_model(ModelSource(str(folder), dtype, "cpu"), **how)


def test_local_folder(folder: Path) -> None:
    loaded = load(folder, "bfloat16")
    assert (loaded.path, loaded.revision, loaded.fresh) == (str(folder), None, ())
    assert loaded.model.dtype == torch.bfloat16
    assert not loaded.model.training
    assert loaded.tokenizer.eos_token_id == loaded.model.config.eos_token_id
    assert load(folder).model.dtype == torch.float32
    source = ModelSource(str(folder))
    assert load_config(source).vocab_size == loaded.model.config.vocab_size
    assert load_tokenizer(source)("a").input_ids == loaded.tokenizer("a").input_ids


def test_a_gguf_file_is_converted_beside_the_output(tmp_path: Path) -> None:
    assert ModelSource("a/Small.Q4.gguf").converted_folder(tmp_path / "adapter") == tmp_path / "Small.Q4-safetensors"
    assert ModelSource("some/model").converted_folder(tmp_path / "adapter") is None
    written = ModelSource("a/Small.Q4.gguf").list_outputs(tmp_path / "adapter")
    assert written == f"{tmp_path / 'adapter'}, and {tmp_path / 'Small.Q4-safetensors'} from Small.Q4.gguf"
    assert ModelSource("some/model").list_outputs(tmp_path) == str(tmp_path)


def test_refuses_what_does_not_fit_the_source(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype 'float8' is unknown; use one of auto"):
        load(folder, "float8")
    with pytest.raises(ValueError, match="revision 'main' is for hub models"):
        load_model(ModelSource(str(folder), revision="main"))
    with pytest.raises(ValueError, match="say beside what the result should lie"):
        load(tmp_path / "model.gguf")


def test_missing_pieces_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(FileNotFoundError, match=r"hollow holds no config\.json"):
        load(tmp_path / "hollow")
    with pytest.raises(FileNotFoundError, match=r"hollow holds no config\.json"):
        load_config(ModelSource(str(tmp_path / "hollow")))
    (tmp_path / "mute").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "mute")
    with pytest.raises(FileNotFoundError, match=r"mute.*the folder holds no complete model"):
        load(tmp_path / "mute")
    shutil.copy(folder / "model.safetensors", tmp_path / "mute")
    with pytest.raises(FileNotFoundError, match=r"mute.*without a tokenizer(.|\n)*tokenizer\.save_pretrained"):
        load(tmp_path / "mute")


@pytest.mark.parametrize("kind", [T5Config, BartConfig])  # of BART there is a causal model: its decoder alone
def test_a_model_with_an_encoder_is_named_as_such(kind: Any, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    for read in (load, lambda folder: load_config(ModelSource(str(folder)))):
        with pytest.raises(ValueError, match=r"has an encoder.*initialize_from_trainer with a Seq2SeqTrainer"):
            read(tmp_path)


def test_a_folder_with_an_adapter_is_no_base_model(folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds an adapter.*name the base model"):
        load(folder)


def test_a_classifier_with_a_fresh_head(folder: Path, tmp_path: Path) -> None:
    assert load(folder).fresh == ()
    loaded = load(folder, head="classifier", num_labels=3)
    assert loaded.fresh == ("score.weight",)
    assert loaded.model.config.num_labels == 3
    loaded.model.save_pretrained(tmp_path / "trained")
    loaded.tokenizer.save_pretrained(tmp_path / "trained")
    assert load(tmp_path / "trained", head="classifier", num_labels=3).fresh == ()
    with pytest.raises(ValueError, match=r"weight score\.weight in the shape \(3, .*name as many classes"):
        load(tmp_path / "trained", head="classifier", num_labels=2)
    with pytest.raises(ValueError, match="head 'regressor' is unknown; use one of language model, classifier"):
        load(folder, head="regressor")


def test_a_classifier_pads_with_the_end_token_where_there_is_no_other(folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    loaded = load(folder, head="classifier", num_labels=2)
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id


def test_unreachable_hub_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("not found")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(FileNotFoundError, match="'nobody/nothing': no such folder, and no such hub model"):
        load("nobody/nothing")


@pytest.mark.parametrize("read", [load_tokenizer, load_config, load_model])
def test_a_model_that_is_nowhere_is_told_as_such(read: Callable[[ModelSource], Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"'smolm2': no such folder, and .*; did you mean smollm2\?"):
        read(ModelSource("smolm2"))
    with pytest.raises(FileNotFoundError, match="'nobody/nothing': no such folder, and") as refusal:
        read(ModelSource("nobody/nothing"))
    assert "did you mean" not in str(refusal.value)
