"""The kinds of tasks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lora_da_bench.experiment.validation import validate_section
from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.generation import Generation
from lora_da_bench.tasks.task import Task

TASKS: dict[str, type[Task]] = {"generation": Generation, "choice": Choice, "classification": Classification}


def make_task(kind: str, options: Mapping[str, Any]) -> Task:
    """Make a task of a kind.

    Args:
        kind: A name in ``TASKS``.
        options: Its fields, as files of settings have them.

    Raises:
        ValueError: The kind or an option is unknown, or an option has a value that it can't have.
    """
    return validate_section(_kind(kind), options, "task.options")


def parse_options(kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Read options of a task as the command line has them.

    Args:
        kind: A name in ``TASKS``.
        given: Each of them as ``name=value``; a list is separated by commas. Unknown names are left to
            :func:`make_task`.

    Raises:
        ValueError: The kind is unknown, an option has no ``=``, or its value is not of its type.
    """
    fields, options = _kind(kind).model_fields, dict[str, Any]()
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"the option {text!r} must be NAME=VALUE, such as {next(iter(fields))}=question")
        options[name] = _parsed(name, value, fields[name].annotation) if name in fields else value
    return options


def _parsed(name: str, value: str, annotation: Any) -> Any:
    several = str(annotation).startswith("tuple")
    try:
        found = TypeAdapter(annotation).validate_python([p.strip() for p in value.split(",")] if several else value)
    except ValidationError as error:
        raise ValueError(f"the option {name}: {error.errors()[0]['msg']}, not {value!r}") from None
    return list(found) if several else found


def _kind(kind: str) -> type[Task]:
    if kind not in TASKS:
        raise ValueError(f"the task {kind!r} is unknown; there are {', '.join(TASKS)}")
    return TASKS[kind]
