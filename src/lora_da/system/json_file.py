"""The JSON files that this library wrote, read back: one that is damaged is named, with the place and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LARGEST = 2**28  # bytes; ours are far smaller


def read_object(path: Path, remedy: str, *, strict: bool = True) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        remedy: What to do where it is damaged, in words.
        strict: Whether NaN and Infinity, which are no JSON, are refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is too large, not UTF-8, no JSON (as of a run that was cut short) or no object; the message names
            the file and the place.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST:,} bytes")
        return parse_object(path.read_bytes(), strict=strict)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from error


def parse_object(content: bytes | str, *, strict: bool = True) -> dict[str, Any]:
    """Read one JSON object; see :func:`read_object`.

    Raises:
        ValueError: It is none; the message names the place.
    """
    try:
        found = json.loads(content, parse_constant=_refuse if strict else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except RecursionError:
        raise ValueError("it has values in thousands of lists and objects") from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__} in the place of an object")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
