"""Descriptions checked by pydantic, with errors that name the key and what to write instead."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Section(BaseModel):
    """A table of a description: keys that are not declared are refused, and so are values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Checked = TypeVar("Checked", bound=BaseModel)


def validate_section(model: type[Checked], content: Any, where: str = "") -> Checked:
    """Make a section from plain data as JSON has them: lists stand for tuples.

    What stands before the keys in messages, such as ``task.options``, is ``where``.

    Raises:
        ValueError: A key is unknown or missing, or a value is not what it must be; the message names the key.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where or 'the description'} must be a table of names and values, not {content!r}")
    try:
        return model.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        prefix = where.split(".") if where else []
        raise ValueError("; ".join(_told(found, model, prefix) for found in error.errors())) from None


def _told(error: Any, model: type[BaseModel], prefix: list[str]) -> str:
    """One of pydantic's errors in words."""
    *around, name = error["loc"] or ("",)
    key = ".".join(map(str, [*prefix, *error["loc"]])) or "the description"
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown; {nearest_name(str(name), _keys_at(model, around))}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key} {message}, not {json.dumps(error['input'])}"


def nearest_name(name: str, names: Iterable[str]) -> str:
    """A question for the nearest of some names, or all of them if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _keys_at(model: type[BaseModel], path: Iterable[Any]) -> list[str]:
    for name in path:
        inner = section_of(model.model_fields[name].annotation) if name in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def section_of(annotation: Any) -> type[Section] | None:
    """The section that an annotation names, alone or beside None."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def parse_text(annotation: Any, text: str) -> Any:
    """Read a field's value as the command line has it; entries of a list are separated by commas.

    Raises:
        ValueError: It is no number where one is needed.
    """
    name = "" if "Literal" in str(annotation) else str(annotation)
    cast: Any = float if "float" in name else int if "int" in name else str
    return [cast(part.strip()) for part in text.split(",")] if is_list(annotation) else cast(text)


def is_list(annotation: Any) -> bool:
    """Say whether a field is a list."""
    return str(annotation).startswith("tuple")
