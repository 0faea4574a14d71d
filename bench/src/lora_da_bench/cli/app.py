"""The command line ``lora-da-bench``."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from typing import Any

import typer

from lora_da.system.launcher import refuse_job
from lora_da.system.library_noise import silence_libraries
from lora_da_bench.cli.compare import compare
from lora_da_bench.cli.laboratory import laboratory

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(compare)
app.command(epilog="Example: lora-da-bench laboratory --quick")(laboratory)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"lora-da-bench {version('lora-da-bench')}")
        raise typer.Exit


@app.callback()
def _common(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
    told: bool = typer.Option(False, "--version", help="Say the version.", callback=_tell_version),
) -> None:
    """Compare LoRA initialisations so that a sceptic believes it."""
    refuse_job("lora-da-bench")


def main() -> None:
    """Run the command line; what a user can mend is told in one line, without a traceback."""
    silence_libraries()
    warnings.showwarning = _show_warning
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"lora-da-bench: {str(error)[:5_000]}")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
