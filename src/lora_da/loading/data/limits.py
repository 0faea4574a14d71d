"""Bounds of data files: one that is damaged, or made to harm, is refused before memory is taken for what it claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch

from lora_da.system.memory import free_bytes
from lora_da.system.sizes import format_size

TEXT_BYTES = 2**30
"""Of a file of text, decompressed: it is read into memory as a whole."""

ROWS = 50_000_000
COLUMNS = 1_000
DEPTH = 100
"""Objects and lists within each other."""

_VALUE_BYTES = 100  # what Python takes for a value of JSON or a cell, roughly


def check_memory(size: int, what: str) -> None:
    """Refuse what takes more than half of the memory that is free.

    Raises:
        ValueError: It would.
    """
    free = free_bytes(torch.device("cpu"))
    if size > free / 2:
        raise ValueError(
            f"{what} take about {format_size(size)} of memory, of which {format_size(free)} is free: split the file"
        )


def check_values(text: str, marks: Iterable[str]) -> None:
    """Refuse a text of more values than fit into memory, by the marks that each value but the first has."""
    count = sum(map(text.count, marks))
    check_memory(count * _VALUE_BYTES, f"its {count:,} values")


def check_columns(names: Collection[str]) -> None:
    """Refuse a table that has more columns than any that is meant.

    Raises:
        ValueError: It has.
    """
    if len(names) > COLUMNS:
        raise ValueError(f"it has more than {COLUMNS:,} columns: keep those that are used")


def is_too_deep(value: Any) -> bool:
    """Whether objects and lists lie in more than :data:`DEPTH` others, through which later steps walk recursively."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            part
            for found in level
            for part in (found.values() if isinstance(found, dict) else found)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True
