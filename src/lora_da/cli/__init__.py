"""The command line ``lora-da``; one file for each command, and no logic of its own."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from lora_da.report.notices import ReportedWarning
from lora_da.system.extras import pip_line
from lora_da.system.launcher import say_process
from lora_da.system.library_noise import silence_libraries

_LONGEST = 5_000  # characters of a message: what it quotes may be a file


def main() -> None:
    """Run ``lora-da``; what a user can mend is told in one line, without a traceback."""
    try:
        from lora_da.cli.app import app
        from lora_da.cli.stopping import keeping
    except ModuleNotFoundError as error:
        sys.exit(f"lora-da: the command line needs {error.name}, which is not installed: {pip_line('cli')}")
    silence_libraries()
    warnings.showwarning = _short_warning
    try:
        with keeping("nothing was begun"):
            app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"lora-da{say_process()}: {str(error)[:_LONGEST]}")


def _short_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Tell a warning for users in one line, of a job's processes the first one's: the others have the same.

    What the report says as well is told there, since every command that makes one prints it.
    """
    told_later = issubclass(category, ReportedWarning)
    if issubclass(category, UserWarning) and not told_later and os.environ.get("RANK", "0") == "0":
        print(f"warning: {message}", file=sys.stderr)
