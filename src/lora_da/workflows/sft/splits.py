"""The training set and the held-out one of ``lora-da sft``."""

from __future__ import annotations

import sys
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, get_dataset

from lora_da.loading.data.row_format import RowFormat, recognise_columns, warn_of_unused_columns
from lora_da.loading.data.rows import load_local
from lora_da.loading.data.trl_rows import as_trl_rows
from lora_da.workflows.sft.arguments import SftArguments


def load_splits(arguments: SftArguments, processor: Any) -> tuple[Any, Any]:
    """Load the training set, and the held-out one if evaluation is on, in TRL's formats and with all rows checked.

    A local file, or a folder of ``save_to_disk`` without splits, is one split; ``test_split_size`` sets rows aside,
    after they have been checked, so that a row is named by its place in the file.
    What is streamed, tokenised already or for a model of images too is left as it is.

    Args:
        arguments: What the command was given.
        processor: The model's tokenizer, or the processor that holds it.

    Raises:
        ValueError: There is nothing to evaluate on, no column that is known, or a row can't be used; the message names
            it.
    """
    script, training = arguments.script, arguments.training
    splits = _splits(arguments, processor)
    wanted = [script.dataset_train_split] + [script.dataset_test_split] * (training.eval_strategy != "no")
    for split in wanted:
        if split not in splits:
            raise ValueError(
                f"the data have no split {split!r}, only {', '.join(splits)}: name one by --dataset_train_split and "
                "--dataset_test_split, or set rows of a file or a mixture aside by --test_split_size 0.1"
            )
    ready = [_checked(splits[split], split, training, processor) for split in wanted]
    return ready[0], ready[1] if len(ready) > 1 else None


def _splits(arguments: SftArguments, processor: Any) -> Any:
    script, mixture, training = arguments.script, arguments.mixture, arguments.training
    if mixture.datasets:
        return get_dataset(mixture)
    name = str(script.dataset_name)
    rows = load_local(name)
    if rows is None:
        return datasets.load_dataset(name, name=script.dataset_config, streaming=script.dataset_streaming)
    if isinstance(rows, datasets.DatasetDict):
        return rows
    if mixture.test_split_size is not None:
        _checked(rows, script.dataset_train_split, training, processor)  # while they have their numbers
        return rows.train_test_split(mixture.test_split_size, seed=training.seed)
    return datasets.DatasetDict({script.dataset_train_split: rows})


def _checked(rows: Any, split: str, training: SFTConfig, processor: Any) -> Any:
    columns = getattr(rows, "column_names", None)
    text = training.dataset_text_field
    if columns is None or "input_ids" in columns or not isinstance(processor, PreTrainedTokenizerBase):
        return rows
    known = recognise_columns([name for name in columns if name != "text" or text == "text"])
    if known is None and text not in columns:
        raise ValueError(
            f"the data have the columns {', '.join(columns)}; known are messages or conversations, prompt and "
            f"completion, {text}, and instruction with output: rename them, or name the column of texts by "
            "--dataset_text_field"
        )
    if not isinstance(rows, datasets.Dataset):  # streamed
        return rows
    if len(rows) == 0:
        raise ValueError(f"the split {split!r} of the data holds no rows")
    cut = not training.packing and training.truncation_mode == "keep_start"
    length = training.max_length if cut else None
    form = RowFormat(text_column=text if known is None else None, max_length=length or sys.maxsize)
    try:
        checked = as_trl_rows(rows, form, processor)
        warn_of_unused_columns(columns, form)
    except ValueError as error:
        raise ValueError(f"the split {split!r} of the data: {error}") from error
    return checked.rename_column("text", text) if "text" in checked.column_names and text != "text" else checked
