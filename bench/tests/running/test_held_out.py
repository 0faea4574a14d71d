"""Losses come in the order of the rows, whatever batches they were measured in."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from lora_da.workflows.sources import ModelSource

from folders import tiny_model_folder
from lora_da_bench.running.evaluation import item_losses
from lora_da_bench.running.held_out import BATCH_SIZE, HeldOut
from lora_da_bench.tasks.generation import Generation


def test_losses_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    loaded = ModelSource(str(tiny_model_folder(tmp_path / "model"))).load(tmp_path)
    task = Generation()
    words = [(7 * index) % 23 + 1 for index in range(BATCH_SIZE + 5)]  # long and short ones mixed
    rows = datasets.Dataset.from_dict(
        {"prompt": ["ab " * count for count in words], "completion": [f"{count} cd" * count for count in words]}
    )
    found = HeldOut(task, rows, loaded.tokenizer).losses(loaded.model)
    collate = task.collator(loaded.tokenizer)
    alone = [item_losses(loaded.model, [collate([example])]) for example in task.encode(rows, loaded.tokenizer)]
    assert found.losses == pytest.approx([losses.losses[0] for losses in alone], rel=1e-5)
    assert found.labels == [losses.labels[0] for losses in alone]
    assert found.labels != sorted(found.labels)
