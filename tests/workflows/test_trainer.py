"""One device and one schedule for every training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from command import call
from folders import tiny_model_folder
from lora_da.workflows.trainer import check_device, trainer_arguments
from lora_da_bench.experiment.experiment import ModelChoice


def arguments(folder: Path) -> TrainingArguments:
    return trainer_arguments(
        str(folder), torch.device("cpu"), batch_size=4, learning_rate=1e-3, steps=100, seed=3, logging_steps=7
    )


def test_the_schedule(tmp_path: Path) -> None:
    made = arguments(tmp_path)
    assert (made.lr_scheduler_type, made.warmup_steps, made.max_steps) == ("cosine", 3, 100)
    assert (made.learning_rate, made.seed, made.logging_steps) == (1e-3, 3, 7)
    assert made.device.type == "cpu"


def test_a_step_has_one_batch_however_many_gpus_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 1 if self._n_gpu == 1 else 4))
    made = arguments(tmp_path)
    assert made.train_batch_size == 4


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_devices_that_training_can_use(device: str | None) -> None:
    check_device(device)
    ModelChoice("smollm2", device=device)


def test_training_is_not_silently_sent_to_another_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose the GPU by CUDA_VISIBLE_DEVICES"):
        ModelChoice("smollm2", device="cuda:1")
    model = tiny_model_folder(tmp_path / "model")
    with pytest.raises(ValueError, match="choose the GPU by CUDA_VISIBLE_DEVICES"):
        call("train", str(model), "--data", "none.jsonl", "--output", tmp_path / "run", "--device", "cuda:1")
