"""Cells of a task's columns, checked."""

from __future__ import annotations

from typing import Any

import datasets


def read_cells(rows: datasets.Dataset, column: str) -> list[Any]:
    """Read all cells of a column.

    Raises:
        ValueError: There is no such column.
    """
    if column not in rows.column_names:
        raise ValueError(f"There is no column {column!r}; the columns are: {', '.join(rows.column_names)}.")
    return list(rows[column])


def read_texts(rows: datasets.Dataset, column: str) -> list[str]:
    """Read all cells of a column of text.

    Raises:
        ValueError: There is no such column, or a cell holds no text; the message names the row.
    """
    found = read_cells(rows, column)
    for index, cell in enumerate(found):
        if not isinstance(cell, str) or not cell.strip():
            raise ValueError(f"Row {index} has no text in the column {column!r}; complete it or leave the row out.")
    return found
