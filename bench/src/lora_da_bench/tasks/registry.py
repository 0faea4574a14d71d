"""The kinds of tasks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_da_bench.experiment.validation import parse_text, validate_section
from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.generation import Generation
from lora_da_bench.tasks.task import Task

TASKS: dict[str, type[Task]] = {"generation": Generation, "choice": Choice, "classification": Classification}


def make_task(kind: str, options: Mapping[str, Any]) -> Task:
    """Make a task of a kind in ``TASKS`` with fields as files of settings have them.

    Raises:
        ValueError: The kind or an option is unknown, or an option has a value that it can't have.
    """
    return validate_section(_kind(kind), options, "task.options")


def parse_options(kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Read options of a task as the command line has them, ``name=value``; a list is separated by commas.

    Unknown names are left to :func:`make_task`.

    Raises:
        ValueError: The kind is unknown, an option has no ``=``, or its value is not of its type.
    """
    fields, options = _kind(kind).model_fields, dict[str, Any]()
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"the option {text!r} must be NAME=VALUE, such as {next(iter(fields))}=question")
        try:
            options[name] = parse_text(fields[name].annotation, value) if name in fields else value
        except ValueError as error:
            raise ValueError(f"the option {name} must be a whole number, not {value!r}") from error
    return options


def _kind(kind: str) -> type[Task]:
    if kind not in TASKS:
        raise ValueError(f"the task {kind!r} is unknown; there are {', '.join(TASKS)}")
    return TASKS[kind]
