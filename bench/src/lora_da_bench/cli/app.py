"""The commands, put together."""

from __future__ import annotations

import typer

from lora_da.cli import run
from lora_da_bench.cli.compare import compare

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(compare)


@app.callback()
def _common(debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors.")) -> None:
    """Compare LoRA initialisations so that a sceptic believes it."""


def main() -> None:
    """Run the command line."""
    run("lora-da-bench", lambda: app)
