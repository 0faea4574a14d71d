"""Training as the field does it: TRL's SFTTrainer, or transformers' Trainer for a classifier."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from lora_da.loading import PreparedExamples
from lora_da_bench.experiment.record import Run


def train_model(
    model: Any, tokenizer: Any, examples: PreparedExamples, run: Run, batch_size: int, callback: TrainerCallback
) -> None:
    """Train by AdamW with a cosine schedule after a warm-up of 3 % of the steps.

    The examples are those of the batches, one after another; where their labels are of whole examples, the model is a
    classifier.

    Raises:
        ValueError: Several GPUs are visible: they would share each batch.
    """
    device = next(model.parameters()).device
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        raise ValueError("a run is trained on one GPU, and several are visible: choose one by CUDA_VISIBLE_DEVICES")
    with tempfile.TemporaryDirectory() as unused:
        settings: dict[str, Any] = {
            "output_dir": unused,
            "per_device_train_batch_size": batch_size,
            "learning_rate": run.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": max(1, round(0.03 * run.steps)),
            "max_steps": run.steps,
            "seed": run.seed,
            "train_sampling_strategy": "sequential",  # the data set holds the batches in their order
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": not sys.stderr.isatty(),
            "remove_unused_columns": False,
            "use_cpu": device.type == "cpu",
            "dataloader_pin_memory": device.type == "cuda",
        }
        data: dict[str, Any] = {"train_dataset": examples.rows, "data_collator": examples.collate}
        trainer: Trainer
        if isinstance(examples.rows[0]["labels"], int):
            trainer = Trainer(model, TrainingArguments(**settings), **data)
        else:
            # As Trainer has it: the base's own precision, and no recomputation. Examples are cut already.
            sft = SFTConfig(**settings, bf16=False, gradient_checkpointing=False, max_length=None)
            trainer = SFTTrainer(model, sft, processing_class=tokenizer, **data)
        trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
