"""Fields of dataclasses that are options: declared once, with their help and the values that are valid."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

required: Any = MISSING
"""In place of a default: there is none."""


def setting(
    default: Any,
    help_text: str | None = None,
    *,
    minimum: float | None = None,
    above: float | None = None,
    argument: bool = False,
) -> Any:
    """Declare a dataclass field with the range that :func:`lora_da.system.validation.check_fields` checks.

    Args:
        default: The default, or :data:`required`.
        help_text: What ``--help`` says, where a command offers the field; else the class's docstring describes it.
        minimum: The smallest number that is valid.
        above: A number that valid ones exceed.
        argument: Whether it stands in the command line without a name.
    """
    metadata = {"help": help_text, "minimum": minimum, "above": above, "argument": argument}
    return field(default=default, metadata=metadata)
