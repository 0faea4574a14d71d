"""Flags made from the description's own fields, so that each key, its default and its help are declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from lora_da_bench.experiment.description import VANILLA, Experiment, describe_experiment
from lora_da_bench.experiment.validation import Section, is_list, parse_text, section_of

# Flags are named as their keys are, but for these.
_NAMES = {
    "model.name": "model",
    "task.kind": "task",
    "task.options": "option",
    "calibration.examples": "calibration_examples",
    "calibration.batch_size": "calibration_batch_size",
    "forgetting.data": "forgetting",
    "forgetting.blocks": "forgetting_blocks",
    "forgetting.length": "forgetting_length",
}
_NEEDED = ("model.name", "task.train", "task.test")
_DEFAULTS = {"name": "comparison", "task.kind": "generation"}  # of what a file must say


def _walk(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            yield from _walk(inner, f"{name}.")


_FIELDS = dict(_walk(Experiment))
_KEYS = {_NAMES.get(key, key.rpartition(".")[2]): key for key in _FIELDS}  # by the flags' parameters


def add_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose ``**flags`` collect them, all flags of an experiment behind its own."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [entry for entry in own if entry.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [_parameter(name, key) for name, key in _KEYS.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return command


def _parameter(name: str, key: str) -> inspect.Parameter:
    """A flag as a parameter, which is None where the flag is not given."""
    field, flag = _FIELDS[key], f"--{show_flag(name)}"
    default = _DEFAULTS.get(key, None if field.is_required() else field.default)
    kind: Any = list[str] if key == "task.options" else field.annotation if field.annotation in (int, bool) else str
    text = (field.description or "").replace("`", "")
    option: Any = typer.Option(
        f"{flag}/--no-{show_flag(name)}" if kind is bool else flag,
        help=text[:1].upper() + text[1:] + ".",
        metavar="NAME=VALUE" if key == "task.options" else "A,B,…" if is_list(field.annotation) else None,
        show_default=",".join(map(str, default)) if isinstance(default, tuple) else str(default) if default else False,
    )
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def show_flag(name: str) -> str:
    """Show a flag's name as it is typed, of that of its parameter."""
    return name.replace("_", "-")


def experiment_of_flags(flags: Mapping[str, Any]) -> Experiment:
    """Make an experiment from the flags that were given; vanilla LoRA is always among its methods.

    Raises:
        BadParameter: A flag that is needed is missing, or a list can't be read.
        ValueError: A value is not what it must be.
    """
    given = _DEFAULTS | {_KEYS[name]: _parsed(name, value) for name, value in flags.items()}
    for name, key in _KEYS.items():
        if key in _NEEDED and key not in given:
            raise typer.BadParameter(f"give --{name}, or describe the whole experiment in a file and give --config")
    if "task.options" in given:
        from lora_da_bench.tasks.registry import parse_options  # here, as it brings torch with it

        given["task.options"] = parse_options(given["task.kind"], given["task.options"])
    if "methods" in given:
        given["methods"] = list(dict.fromkeys([VANILLA, *given["methods"]]))
    content: dict[str, Any] = {}
    for key, value in given.items():
        section, _, own = key.rpartition(".")
        (content.setdefault(section, {}) if section else content)[own] = value
    return describe_experiment(content)


def _parsed(name: str, value: Any) -> Any:
    """A value, of a list its entries, which the command line has as text with commas."""
    annotation = _FIELDS[_KEYS[name]].annotation
    try:
        return parse_text(annotation, value) if is_list(annotation) else value
    except ValueError as error:
        raise typer.BadParameter(f"--{show_flag(name)} must be numbers separated by commas, not {value!r}") from error
