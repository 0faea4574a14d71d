"""Trainers of TRL that compare with a reference: in which order an adapter and a trainer are made."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lora_da import LoraDAConfig, initialize_from_trainer, initialize_lora_da_weights
from models import causal_examples, collate
from presets import PARAMETERS

trl = pytest.importorskip("trl")

pytestmark = pytest.mark.filterwarnings("ignore:.*saw fewer tokens than they have input dimensions")

LORA = LoraConfig(r=2, target_modules="all-linear")
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "bf16": False}
STEP = {"max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True, "seed": 5}
PAIRS = [{"prompt": f"{n} + 7 =", "chosen": f" {n + 7}", "rejected": f" {n + 8} indeed"} for n in range(12)]
KTO = [{"prompt": f"{n} + 7 =", "completion": f" {n + 7}", "label": bool(n % 2)} for n in range(12)]


def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, pad_token="</s>")


def trainer_of(kind: str, folder: Path, output: Path, model: Any, **options: Any) -> Any:
    rows = {"DPO": PAIRS, "KTO": KTO, "GRPO": [{"prompt": row["prompt"]} for row in PAIRS]}[kind]
    settings: dict[str, Any] = {"output_dir": str(output), "beta": 0.5, **QUIET, **STEP}
    if kind == "GRPO":
        settings |= {"num_generations": 2, "max_completion_length": 4}
        options |= {"reward_funcs": lambda completions, **_: [float(len(text)) for text in completions]}
    return getattr(trl, f"{kind}Trainer")(
        model=model,
        args=getattr(trl, f"{kind}Config")(**settings),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer_of(folder),
        **options,
    )


def first_step(trainer: Any, kind: str) -> float:
    """By how much the model differs from its reference before it has learned anything."""
    trainer.train()
    log = trainer.state.log_history[0]
    start = {"GRPO": 0.0, "DPO": math.log(2), "KTO": 0.5}[kind]
    return abs(float(log["kl" if kind == "GRPO" else "loss"]) - start)


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LORA)


BATCHES = [collate(causal_examples(8))]
LARGE = dataclasses.replace(PARAMETERS, stable_gamma=1.0)  # a step that every trainer sees


@pytest.mark.parametrize("kind", ["DPO", "KTO", "GRPO"])
@pytest.mark.filterwarnings("ignore:the calibration loss rose")
def test_an_adapter_initialised_before_the_trainer_is_its_own_reference(
    kind: str, folder: Path, tmp_path: Path, model: Any
) -> None:
    initialize_lora_da_weights(model, BATCHES, LARGE, progress=False)
    assert first_step(trainer_of(kind, folder, tmp_path, model), kind) < 1e-6


@pytest.mark.parametrize("kind", ["DPO", "KTO", "GRPO"])
@pytest.mark.filterwarnings("ignore:the calibration loss rose")
def test_an_adapter_initialised_after_it_is_not(kind: str, folder: Path, tmp_path: Path, model: Any) -> None:
    trainer = trainer_of(kind, folder, tmp_path, model)
    initialize_lora_da_weights(trainer.model, BATCHES, LARGE, progress=False)
    assert first_step(trainer, kind) > 1e-5


def test_from_the_trainer_its_copy_is_renewed(folder: Path, tmp_path: Path, model: Any) -> None:
    trainer = trainer_of("DPO", folder, tmp_path, model)
    report = initialize_from_trainer(trainer, progress=False)
    assert report.examples == report.population_size == len(PAIRS)
    assert report.loss_before == pytest.approx(math.log(2))
    assert report.loss_after < report.loss_before  # type: ignore[operator]
    assert not any("compares with" in notice for notice in report.notices)
    assert first_step(trainer, "DPO") < 1e-6


def test_a_trainer_that_makes_the_adapter_compares_with_the_base(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of("DPO", folder, tmp_path, str(folder), peft_config=LORA)
    with pytest.warns(UserWarning, match="compares with the base model, from which the initialised adapter differs"):
        report = initialize_from_trainer(trainer, progress=False)
    assert "initialise a PEFT model first" in report.notices[-1]
    step = first_step(trainer, "DPO")
    assert step > 1e-5


def test_without_a_step_it_starts_from_the_base(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of("DPO", folder, tmp_path, str(folder), peft_config=LORA)
    report = initialize_from_trainer(trainer, LoraDAConfig(init_scale="zero"), progress=False)
    assert not any("compares with" in notice for notice in report.notices)
    assert first_step(trainer, "DPO") < 1e-6


def test_the_loss_of_pairs_is_the_trainers(folder: Path, tmp_path: Path, model: Any) -> None:
    """Its mean over the batches equals that of the report, also where the reference is another adapter."""
    trainer = trainer_of("DPO", folder, tmp_path, str(folder), peft_config=LORA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = initialize_from_trainer(trainer, progress=False)
    trainer.model.eval()
    losses = [
        trainer.compute_loss(trainer.model, batch).item()
        for batch in DataLoader(trainer.train_dataset, batch_size=4, collate_fn=trainer.data_collator)
    ]
    assert report.loss_after == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_rewards(folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(folder)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=tokenizer.pad_token_id)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    trainer = trl.RewardTrainer(
        get_peft_model(base, lora),
        trl.RewardConfig(output_dir=str(tmp_path), center_rewards_coefficient=0.1, **QUIET, **STEP),
        train_dataset=datasets.Dataset.from_list(PAIRS),
        processing_class=tokenizer,
    )
    report = initialize_from_trainer(trainer, progress=False)
    assert report.examples == len(PAIRS)
    trainer.model.eval()
    with trainer.model.disable_adapter(), torch.no_grad():
        losses = [
            trainer.compute_loss(trainer.model, batch).item()
            for batch in DataLoader(trainer.train_dataset, batch_size=4, collate_fn=trainer.data_collator)
        ]
    assert report.loss_before == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("GRPO", "GRPOTrainer trains on answers that it generates itself"),
        ("KTO", r"its own \(KTOTrainer.compute_loss\).*give example_loss"),
    ],
)
def test_trainers_that_are_refused(kind: str, why: str, folder: Path, tmp_path: Path, model: Any) -> None:
    with pytest.raises(ValueError, match=why):
        initialize_from_trainer(trainer_of(kind, folder, tmp_path, model), progress=False)
