"""Classification: texts that have a class each, padded to one width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lora_da.loading import load_rows
from lora_da_bench.laboratory.data.examples import Examples

_LARGEST = 10_000  # texts of a file that are used: a run sees about a thousand, and all have to be tokenised


@dataclass(frozen=True)
class Classification:
    """Where the texts of a task are, and what their class is.

    Attributes:
        file: Below the folder of data.
        column: With the text.
        class_of: A row's class, from 0.
        classes: How many there are.
    """

    file: str
    column: str
    class_of: Callable[[Mapping[str, Any]], int]
    classes: int = 2


CLASSIFICATIONS = {
    "sst2": Classification("sst2/train.tsv", "sentence", lambda row: int(row["label"])),
    "gsm8k-steps": Classification("gsm8k/train.jsonl", "question", lambda row: int(row["answer"].count("<<") > 3)),
}
"""By name: is a phrase of a review positive; does a problem take more than three steps of calculation?

BoolQ without its passages is none of them: no small model learns it.
"""


def encode_texts(task: Classification, folder: Path, tokenizer: Any, length: int) -> Examples:
    """Read a task's texts, each once, and tokenise them; what is longer than ``length`` tokens loses its end."""
    found = {str(row[task.column]).strip(): task.class_of(row) for row in load_rows(str(folder / task.file))}
    kept = dict(islice(found.items(), _LARGEST))
    rows = tokenizer(list(kept), truncation=True, max_length=length)["input_ids"]
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    input_ids = torch.full((len(rows), length), padding)
    mask = torch.zeros_like(input_ids)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return Examples(input_ids, mask, torch.tensor(list(kept.values())))
