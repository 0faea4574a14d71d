"""Fields of dataclasses that are options of commands: declared once, with their help."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

required: Any = MISSING
"""In place of a default: there is none."""


def setting(default: Any, help_text: str, *, minimum: int | None = None, argument: bool = False) -> Any:
    """Declare a dataclass field that a command offers.

    Args:
        default: The default, or :data:`required`.
        help_text: What ``--help`` says.
        minimum: The smallest number that is valid.
        argument: Whether it stands in the command line without a name.
    """
    metadata = {"help": help_text, "minimum": minimum, "argument": argument}
    return field(default=default, metadata=metadata)
