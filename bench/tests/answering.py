"""A small model on disk, and a task's answers by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from folders import tiny_model_folder
from lora_da.loading import LoadedModel, ModelSource, load_model
from lora_da_bench.tasks.task import Answer, Task


def tiny_loaded(folder: Path, **options: Any) -> LoadedModel:
    return load_model(ModelSource(str(tiny_model_folder(folder / "model")), device="cpu"), **options)


def answers_of(task: Task, loaded: LoadedModel, rows: datasets.Dataset, batch_size: int = 2) -> list[Answer]:
    return task.answer(loaded.model, loaded.tokenizer, task.pose(rows, loaded.tokenizer), batch_size)
