"""What made a result: the command, the machine, the day and the versions of packages."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from typing import Any

from lora_da.report.provenance import PACKAGES, describe_machine, find_versions


def describe_run() -> dict[str, Any]:
    """Return the head of a results file."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "versions": find_versions((*PACKAGES, "trl", "bitsandbytes")),
    }
