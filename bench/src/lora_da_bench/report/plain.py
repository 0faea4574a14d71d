"""Dataclasses from plain data, such as a parsed file; what is wrong is told by its name there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

IN_WORDS = {
    "str": "text",
    "str | None": "text",
    "int": "a whole number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[float, ...]": "a list of numbers",
    "dict[str, Any]": "a table",
}


def from_plain(kind: Any, content: Any, parts: Mapping[str, Any], where: str = "") -> Any:
    """An instance of a dataclass, every value checked against the annotation of its field.

    Args:
        kind: The dataclass.
        content: Names and values.
        parts: The dataclasses of fields that are tables themselves, by their names.
        where: What stands before the names in messages.

    Raises:
        ValueError: A name is unknown or missing, or a value of the wrong kind; the message names it.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where.rstrip('.') or 'the description'} must be a table of names and values")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise ValueError(f"{where}{unknown[0]} is unknown; there are {', '.join(fields)}")
    needed = [
        name
        for name, entry in fields.items()
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING and name not in content
    ]
    if needed:
        raise ValueError(f"{where}{needed[0]} is missing")
    values = {}
    for name, value in content.items():
        left_out = value is None and str(fields[name].type).endswith("| None")
        if name in parts and not left_out:
            values[name] = from_plain(parts[name], value, {}, f"{where}{name}.")
        else:
            values[name] = _value(fields[name], value, f"{where}{name}")
    return kind(**values)


def _value(entry: Any, value: Any, where: str) -> Any:
    """A field's value, checked; lists become tuples."""
    annotation = str(entry.type)
    several = isinstance(value, (list, tuple))
    if "float" in annotation and several:
        value = [_number(one) for one in value]
    good = {
        "str": isinstance(value, str),
        "str | None": value is None or isinstance(value, str),
        "int": _whole(value),
        "bool": isinstance(value, bool),
        "tuple[str, ...]": several and all(isinstance(one, str) for one in value),
        "tuple[int, ...]": several and all(map(_whole, value)),
        "tuple[float, ...]": several and all(_whole(one) or isinstance(one, float) for one in value),
        "dict[str, Any]": isinstance(value, Mapping),
    }
    if not good.get(annotation, True):
        example = f", such as {entry.name} = {json.dumps(entry.default)}" if annotation.startswith("tuple") else ""
        raise ValueError(f"{where} must be {IN_WORDS[annotation]}{example}, not {value!r}")
    return tuple(value) if several else value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    """YAML reads 1e-4, without a dot, as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
