"""What made a result: the command, the machine, the day and the versions of packages."""

from __future__ import annotations

from datetime import date
from typing import Any

from lora_da.system.provenance import PACKAGES, describe_command, describe_machine, find_versions


def describe_run() -> dict[str, Any]:
    """Return the head of a results file."""
    return {
        "command": describe_command(),
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "versions": find_versions((*PACKAGES, "trl", "bitsandbytes")),
    }
