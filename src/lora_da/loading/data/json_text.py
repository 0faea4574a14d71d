"""JSON files as rows, exactly: no text becomes a date or a number, no missing key a null, and no number another one."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
from datasets.features.features import register_feature

from lora_da.loading.data.limits import DEPTH, check_columns, check_values, is_too_deep


@dataclass
class JsonText:
    """A type of datasets' features: any JSON value, kept as its text.

    datasets' own ``Json`` reads one number in two hundred back with another last digit, and the text "5" as a number.
    """

    pa_type: ClassVar[Any] = datasets.Value("string")()
    _type: str = "JsonText"

    def __call__(self) -> Any:
        """The Arrow type."""
        return self.pa_type

    def encode_example(self, value: Any) -> str | None:
        """The text of a value; None stays a missing one."""
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def decode_example(self, value: str | None, token_per_repo_id: Any = None) -> Any:
        """The value of a text."""
        return None if value is None else json.loads(value)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the function's being experimental
    register_feature(JsonText, "JsonText")


# One object with such a key is a row.
_OF_A_ROW = {"messages", "conversations", "prompt", "completion", "text", "instruction", "chosen"}


def read_json(text: str, key: str | None = None) -> datasets.Dataset:
    """Read JSON Lines, a list of records (of texts: the column ``text``), or the list under a key of one object.

    Raises:
        ValueError: It is none of them; the message names the line, the row, or the keys that there are.
    """
    check_values(text, "[{,")
    rows = _rows(text)
    if key is not None:
        if not _is_one_object(rows) or not isinstance(rows[0].get(key), list):
            found = [name for name, value in rows[0].items() if isinstance(value, list)] if _is_one_object(rows) else []
            there = f"; there is one under {', '.join(map(repr, found))}" if found else ""
            raise ValueError(f"there is no list under the key {key!r}{there}")
        rows = rows[0][key]
    elif _is_one_object(rows) and not _OF_A_ROW & rows[0].keys():
        wrapping = [name for name, value in rows[0].items() if _is_table(value)]
        if wrapping:
            raise ValueError(f"it is one object, whose rows are under a key: name it behind a colon, :{wrapping[0]}")
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    names: dict[str, None] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {place} is no object with columns but of type {type(row).__name__}")
        if is_too_deep(row):
            raise ValueError(f"row {place} has values in more than {DEPTH} lists and objects: {_TOO_DEEP}")
        names |= dict.fromkeys(row)
        check_columns(names)
    columns = {name: [row.get(name) for row in rows] for name in names}
    features = datasets.Features({name: _feature(cells) for name, cells in columns.items()})
    return datasets.Dataset.from_dict(columns, features=features)


_TOO_DEEP = "take it out, or write it as text"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"it has values in thousands of lists and objects: {_TOO_DEEP}") from None


def _rows(text: str) -> list[Any]:
    try:
        whole = _parsed(text)
    except json.JSONDecodeError as error:
        first, _, rest = text.lstrip().partition("\n")
        if not rest or not first.lstrip().startswith("{"):
            raise
        try:
            _parsed(first)
        except json.JSONDecodeError:  # no line by itself, and so no JSON Lines
            raise error from None
        return [_line(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return whole if isinstance(whole, list) else [whole]


def _line(line: str, number: int) -> Any:
    try:
        return _parsed(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg} at column {error.colno}") from error
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _is_one_object(rows: list[Any]) -> bool:
    return len(rows) == 1 and isinstance(rows[0], dict)


def _is_table(value: Any) -> bool:
    """Whether it is a list of records, and no conversation under a name of its own."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not {"role", "from"} & first.keys()


def _feature(cells: list[Any]) -> Any:
    """The type of a column: as datasets has it if that holds the cells as they are, else as text."""
    try:
        kind = datasets.Dataset.from_dict({"cells": cells}).features["cells"]
    except (ValueError, TypeError, OverflowError):  # cells of several types, or integers of more than 64 bits
        return JsonText()
    return JsonText() if _holds_objects(kind) else kind


def _holds_objects(kind: Any) -> bool:
    """Whether it is of objects, to all of which Arrow would give the keys of each, with nulls."""
    return isinstance(kind, dict) or (hasattr(kind, "feature") and _holds_objects(kind.feature))
