"""A trainer with A frozen, against a loop of a few lines that has B alone in its optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

from lora_da import freeze_a, initialize_from_trainer
from presets import PARAMETERS

pytestmark = pytest.mark.filterwarnings("ignore:.*saw fewer tokens than they have input dimensions")

ROWS = [{"prompt": f"{n} + 7 =", "completion": f" {n + 7}"} for n in range(12)]
LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
RATE = 1e-2


def make_trainer(folder: Path, output: Path, given: str, batches: list[Any]) -> Any:
    set_seed(0)
    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model, config = (get_peft_model(base, LORA), None) if given == "PEFT model" else (base, LORA)
    constant: dict[str, Any] = {"learning_rate": RATE, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    quiet: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
    machine: dict[str, Any] = {"use_cpu": True, "bf16": False, "max_steps": 3, "per_device_train_batch_size": 4}
    args = SFTConfig(output_dir=str(output), **constant, **quiet, **machine)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer: Any = SFTTrainer(
        model, args, train_dataset=Dataset.from_list(ROWS), processing_class=tokenizer, peft_config=config
    )
    collate = trainer.data_collator

    def recording(examples: Any) -> Any:
        batches.append(collate(examples))
        return batches[-1]

    trainer.data_collator = recording
    return trainer


@pytest.mark.parametrize("freeze_first", [True, False])
@pytest.mark.parametrize("given", ["PEFT model", "peft_config"])
def test_training_is_that_of_a_loop_with_b_alone(folder: Path, tmp_path: Path, given: str, freeze_first: bool) -> None:
    batches: list[Any] = []
    trainer = make_trainer(folder, tmp_path, given, batches)
    if freeze_first:
        freeze_a(trainer.model)
    initialize_from_trainer(trainer, PARAMETERS, max_examples=8, progress=False)
    if not freeze_first:
        freeze_a(trainer.model)
    by_hand: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LORA)
    by_hand.load_state_dict(trainer.model.state_dict())
    batches.clear()
    trainer.train()

    own = {name: p for name, p in by_hand.named_parameters() if ".lora_B." in name}
    held = sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"])
    assert held == sum(p.numel() for p in own.values())
    for name, parameter in by_hand.named_parameters():
        parameter.requires_grad_(name in own)
    optimizer, losses = torch.optim.AdamW(own.values(), lr=RATE, weight_decay=0.0), []
    for batch in batches:
        loss = by_hand(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert found == pytest.approx(losses, rel=1e-4)
    trained = trainer.model.state_dict()
    for name, value in by_hand.state_dict().items():
        if name in own:
            torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(trained[name], value), name
