"""What every training with transformers' Trainer has in common here: the schedule, and that it runs on one device."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

_DEVICES = (None, "cpu", "cuda", "mps")


def check_device(device: str | None) -> None:
    """Refuse a device that Trainer, which takes the first GPU it sees, would not use.

    Raises:
        ValueError: It is a GPU with a number.
    """
    if device not in _DEVICES:
        raise ValueError(f"training can't be sent to {device!r}: choose the GPU by CUDA_VISIBLE_DEVICES, and say cuda")


def trainer_arguments(
    output: str,
    device: torch.device,
    *,
    batch_size: int,
    learning_rate: float,
    steps: int,
    seed: int,
    **others: Any,
) -> TrainingArguments:
    """AdamW with a cosine schedule after 3 % of warm-up.

    Args:
        output: Where Trainer keeps its checkpoints.
        device: Where the model is.
        batch_size: Examples a step.
        learning_rate: Its peak.
        steps: Optimiser steps.
        seed: Of the order of the examples.
        others: Further arguments of TrainingArguments.
    """
    on_cpu = device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=output,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(0.03 * steps)),
        max_steps=steps,
        seed=seed,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        **others,
    )
    if arguments.n_gpu > 1:  # Trainer would give each of them a batch of its own
        arguments._n_gpu = 1
    return arguments
