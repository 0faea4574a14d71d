"""The kinds of tasks there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lora_da.experiments.tasks.choice import Choice
from lora_da.experiments.tasks.classification import Classification
from lora_da.experiments.tasks.generation import Generation
from lora_da.experiments.tasks.task import Task
from lora_da.experiments.tasks.text import Text

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
    if kind not in TASKS:
        raise ValueError(f"the task {kind!r} is unknown; there are {', '.join(TASKS)}")
    fields = {field.name: field.type for field in dataclasses.fields(TASKS[kind])}  # type: ignore[arg-type]
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
