"""Fields of dataclasses that are options: declared once, with their help and the values that are valid, and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

required: Any = dataclasses.MISSING
"""In place of a default: there is none."""


def setting(
    default: Any,
    help_text: str | None = None,
    *,
    minimum: float | None = None,
    above: float | None = None,
    argument: bool = False,
    parser: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare a dataclass field with the range that :func:`check_fields` checks.

    Args:
        default: The default, or :data:`required`.
        help_text: What ``--help`` says, where a command offers the field; else the class's docstring describes it.
        minimum: The smallest number that is valid.
        above: A number that valid ones exceed.
        argument: Whether it stands in the command line without a name.
        parser: Makes the value of what stands there, where the field's type has several kinds.
    """
    metadata = {"help": help_text, "minimum": minimum, "above": above, "argument": argument, "parser": parser}
    return dataclasses.field(default=default, metadata=metadata)


def check_fields(instance: Any) -> None:
    """Check every field that has a ``Literal`` annotation or a declared range; None passes where it is the default.

    Raises:
        ValueError: A field holds something else than its annotation lists, or a number outside its range.
    """
    hints = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        value, name = getattr(instance, field.name), f"{type(instance).__name__}.{field.name}"
        hint = hints[field.name]
        if get_origin(hint) is Literal:
            _check_choice(name, value, get_args(hint))
        named = [choice for part in get_args(hint) if get_origin(part) is Literal for choice in get_args(part)]
        if value in named:
            continue
        if value is not None or field.default is not None:
            _check_range(name, value, field.metadata.get("minimum"), field.metadata.get("above"))


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def _check_range(name: str, value: Any, minimum: float | None, above: float | None) -> None:
    if minimum is not None and not (_is_finite(value) and minimum <= value):
        raise ValueError(f"{name} must be a number of at least {minimum}, not {value!r}")
    if above is not None and not (_is_finite(value) and above < value):
        raise ValueError(f"{name} must be a number above {above}, not {value!r}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
