"""TRL's trainer takes the initialised model and keeps its starting point."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from folders import tiny_model_folder
from lora_da import initialize_lora_da_weights


def test_sft_trainer_keeps_the_starting_point(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    folder = tiny_model_folder(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=2, target_modules="all-linear"))
    ids = torch.randint(1, 200, (8, 12), generator=torch.Generator().manual_seed(0))
    initialize_lora_da_weights(model, [{"input_ids": ids, "labels": ids}], progress=False)
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if "lora_" in name}

    rows = datasets.Dataset.from_list([{"text": f"{n} and {n + 1}"} for n in range(4)])
    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, learning_rate=1e-2, use_cpu=True, report_to="none", bf16=False
    )
    trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    held = {name: parameter for name, parameter in trainer.model.named_parameters() if "lora_" in name}
    assert held.keys() == before.keys()
    assert all(torch.equal(held[name], before[name]) for name in before)
    trainer.train()
    assert any(not torch.equal(held[name], before[name]) for name in before)
