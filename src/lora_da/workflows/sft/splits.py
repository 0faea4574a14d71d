"""The training set and the held-out one of ``lora-da sft``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from trl import SFTConfig, get_dataset

from lora_da.loading.rows import load_rows
from lora_da.workflows.sft.arguments import SftArguments


def load_splits(arguments: SftArguments) -> tuple[Any, Any]:
    """Load the training set, and the held-out one if evaluation is on.

    A local file, or a folder of ``save_to_disk`` without splits, is one split; ``test_split_size`` sets rows aside.

    Raises:
        ValueError: There is nothing to evaluate on, or no column that TRL reads.
    """
    script, mixture, training = arguments.script, arguments.mixture, arguments.training
    path = Path(str(script.dataset_name))
    if mixture.datasets:
        splits = get_dataset(mixture)
    elif (path / "dataset_dict.json").is_file():
        splits = datasets.load_from_disk(path)
    elif path.is_file() or (path / "state.json").is_file():
        rows = load_rows(str(path))
        splits = datasets.DatasetDict({script.dataset_train_split: rows})
        if mixture.test_split_size is not None:
            splits = rows.train_test_split(mixture.test_split_size, seed=training.seed)
    else:
        splits = datasets.load_dataset(
            script.dataset_name, name=script.dataset_config, streaming=script.dataset_streaming
        )
    wanted = [script.dataset_train_split] + [script.dataset_test_split] * (training.eval_strategy != "no")
    for split in wanted:
        if split not in splits:
            raise ValueError(
                f"the data have no split {split!r}, only {', '.join(splits)}: name one by --dataset_train_split and "
                "--dataset_test_split, or set rows of a file or a mixture aside by --test_split_size 0.1"
            )
    _check_columns(splits[wanted[0]].column_names, training)
    return splits[wanted[0]], splits[wanted[1]] if len(wanted) > 1 else None


def _check_columns(columns: Sequence[str] | None, training: SFTConfig) -> None:
    """Tell which columns TRL reads, where it would only say that one is missing."""
    known = {"messages", "conversations", "input_ids", training.dataset_text_field}
    if columns is None or known & set(columns) or {"prompt", "completion"} <= set(columns):
        return
    raise ValueError(
        f"the data have the columns {', '.join(columns)}; TRL reads messages, prompt and completion, or "
        f"{training.dataset_text_field}: rename them, or name the column of texts by --dataset_text_field"
    )
