"""The model and the tokenizer are those that TRL's trainer would load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer

from folders import tiny_model_folder
from lora_da.loading.data.rows import load_rows
from lora_da.workflows.sft.base_model import load_base, load_processor


def settings(folder: Path, **more: Any) -> SFTConfig:
    return SFTConfig(output_dir=str(folder / "run"), use_cpu=True, bf16=False, report_to="none", **more)


def test_the_model_is_that_of_trls_trainer(model: str, data: str, tmp_path: Path) -> None:
    options: Any = {"dtype": "bfloat16", "attn_implementation": "eager"}
    training = settings(tmp_path, model_init_kwargs=options)
    trainer: Any = SFTTrainer(model, settings(tmp_path, model_init_kwargs=options), train_dataset=load_rows(data))
    found = load_base(model, training, ModelConfig())
    assert training.model_init_kwargs is None
    assert found.config._attn_implementation == trainer.model.config._attn_implementation == "eager"
    expected = trainer.model.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    assert found.dtype == trainer.model.dtype == torch.bfloat16


def test_the_tokenizer_has_the_template_and_the_end_of_training(model: str, tmp_path: Path) -> None:
    assert load_processor(model, settings(tmp_path)).chat_template is None
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    chosen = settings(tmp_path, chat_template_path=str(tmp_path / "own.jinja"), eos_token="a")
    found = load_processor(model, chosen)
    assert (found.chat_template, found.eos_token) == ("{{ messages }}", "a")
    other = tiny_model_folder(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.chat_template = "{{ messages[0] }}"
    tokenizer.save_pretrained(other)
    assert load_processor(model, settings(tmp_path, chat_template_path=str(other))).chat_template == "{{ messages[0] }}"
