"""Options of commands: those that several share, and those that are the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Preset = Annotated[
    str,
    typer.Option(
        help="default: the best measured so far; paper: as the paper derives it; released: what the authors' released "
        "configuration computes."
    ),
]
DEFAULT_PRESET = "default"
Output = Annotated[Path, typer.Option(help="The folder to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there already.")]


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Make the fields of a command's dataclasses, declared by ``setting``, options of their own.

    Each dataclass is a panel of the help, with the title that its ``panel`` is.

    Returns:
        The command as typer takes it: it puts the dataclasses together and calls the function.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind: Any = hints[parameter.name]
        if parameter.name in groups:
            types = get_type_hints(kind)
            parameters += [_parameter(field, types[field.name], kind.panel) for field in dataclasses.fields(kind)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        command(**made, **given)

    vars(flat)["__signature__"] = inspect.Signature(parameters)
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _parameter(field: dataclasses.Field[Any], kind: Any, panel: str) -> inspect.Parameter:
    """A field as a parameter that typer understands, in a panel of the help."""
    told: dict[str, Any] = {"help": field.metadata["help"]}
    if field.metadata["parser"] is None:
        told["min"] = field.metadata["minimum"]
    else:
        told, kind = told | {"parser": field.metadata["parser"]}, str
    needed = field.default is dataclasses.MISSING
    if field.metadata["argument"]:
        info = typer.Argument(show_default=not needed, **told)
    else:
        # A switch that is off needs no --no-… beside it.
        names = [f"--{field.name.replace('_', '-')}"] if field.default is False else []
        info = typer.Option(*names, show_default=not needed, rich_help_panel=panel, **told)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if needed else field.default,
        annotation=Annotated[kind, info],
    )
