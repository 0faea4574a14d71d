"""The kinds of tasks there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.generation import Generation
from lora_da_bench.tasks.task import Task
from lora_da_bench.tasks.text import Text

TASKS: dict[str, type[Task]] = {
    "generation": Generation,
    "choice": Choice,
    "classification": Classification,
    "text": Text,
}


def make_task(kind: str, options: Mapping[str, Any]) -> Task:
    """A task of a kind.

    Args:
        kind: A name in ``TASKS``.
        options: Its fields; lists, as files of settings have them, become tuples of strings.

    Raises:
        ValueError: The kind or an option is unknown, or an option has a value that it can't have.
    """
    fields = _fields(kind)
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise ValueError(f"the task {kind} has no option {unknown[0]!r}; there are {', '.join(fields)}")
    values = {
        name: tuple(str(entry) for entry in value) if isinstance(value, list | tuple) else value
        for name, value in options.items()
    }
    for name, value in values.items():
        kinds: dict[Any, Any] = {"int": int, "str": str, "str | None": str | None, "tuple[str, ...]": tuple}
        if not isinstance(value, kinds[fields[name]]):
            raise ValueError(f"the option {name} of the task {kind} must be of type {fields[name]}, not {value!r}")
    return TASKS[kind](**values)


def options_from_text(kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Options of a task as the command line has them.

    Args:
        kind: A name in ``TASKS``.
        given: Each of them as ``name=value``; a list is separated by commas. Unknown names are left to
            :func:`make_task`.

    Raises:
        ValueError: The kind is unknown, an option has no ``=``, or its value is no whole number where one is needed.
    """
    fields, options = _fields(kind), dict[str, Any]()
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"the option {text!r} must be NAME=VALUE, such as {next(iter(fields))}=question")
        options[name] = value
        if fields.get(name) == "int":
            try:
                options[name] = int(value)
            except ValueError as error:
                raise ValueError(f"the option {name} must be a whole number, not {value!r}") from error
        elif fields.get(name, "").startswith("tuple"):
            options[name] = [part.strip() for part in value.split(",")]
    return options


def _fields(kind: str) -> dict[str, str]:
    """The options of a kind, with their types."""
    if kind not in TASKS:
        raise ValueError(f"the task {kind!r} is unknown; there are {', '.join(TASKS)}")
    return {field.name: str(field.type) for field in dataclasses.fields(TASKS[kind])}  # type: ignore[arg-type]
