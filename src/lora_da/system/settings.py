"""Fields of dataclasses that are options: declared once, with their help and the values that are valid."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any, help_text: str | None = None, *, minimum: float | None = None, above: float | None = None
) -> Any:
    """Declare a dataclass field with a default, the help text of its option and its range.

    :func:`lora_da.system.validation.check_fields` checks the range.

    Args:
        default: The default.
        help_text: What ``--help`` says, where a command has the option; else the class's docstring describes the field.
        minimum: The smallest number that is valid.
        above: A number that valid ones exceed.
    """
    return field(default=default, metadata={"help": help_text, "minimum": minimum, "above": above})
