"""The command line ``lora-da``; one file for each command, and no logic of its own."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from lora_da.system.extras import pip_line
from lora_da.system.launcher import say_process

_LONGEST = 5_000  # characters of a message: what it quotes may be a file


def main() -> None:
    """Run ``lora-da``; what a user can mend is told in one line, without a traceback."""
    try:
        from lora_da.cli.app import app
        from lora_da.cli.stopping import keeping
    except ModuleNotFoundError as error:
        sys.exit(f"lora-da: the command line needs {error.name}, which is not installed: {pip_line('cli')}")
    warnings.showwarning = _short_warning
    try:
        with keeping("nothing was begun"):
            app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"lora-da{say_process()}: {str(error)[:_LONGEST]}")


def _short_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
