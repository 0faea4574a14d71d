"""Checks of configuration fields that take one of a few names."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choices(config: Any) -> None:
    """Check every ``Literal`` field of a dataclass instance.

    Args:
        config: An instance of a dataclass.

    Raises:
        ValueError: A field holds something else than its annotation lists.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        if get_origin(hints[field.name]) is Literal:
            choices = get_args(hints[field.name])
            value = getattr(config, field.name)
            if value not in choices:
                names = " or ".join(repr(choice) for choice in choices)
                raise ValueError(f"{type(config).__name__}.{field.name} must be {names}, not {value!r}")
