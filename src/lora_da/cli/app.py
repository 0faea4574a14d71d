"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_da import __version__
from lora_da.cli._moved import add_moved_commands
from lora_da.cli.demo import demo
from lora_da.cli.init import init
from lora_da.cli.inspect import inspect
from lora_da.cli.merge import merge_statistics
from lora_da.cli.plan import plan
from lora_da.cli.sft import CONTEXT_SETTINGS, sft
from lora_da.system.launcher import refuse_job

_FOR_JOBS = ("init", "sft")  # the commands that several processes carry out together

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Example: lora-da init smollm2 --data train.jsonl --output adapter",
)
app.command(epilog="Example: lora-da init smollm2 --data train.jsonl --output adapter --rank 16")(init)
app.command(epilog="Example: lora-da plan smollm2 --rank 16 --device-memory 24GiB")(plan)
app.command(epilog="Example: lora-da inspect adapter")(inspect)
app.command(context_settings=CONTEXT_SETTINGS)(sft)
app.command(epilog="Example: lora-da demo --quick")(demo)
app.command(epilog="Example: lora-da merge-statistics a.safetensors b.safetensors --output sum.safetensors")(
    merge_statistics
)
add_moved_commands(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"lora-da {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Say the version.", callback=_tell_version)] = False,
) -> None:
    """Initialise LoRA adapters from data (LoRA-DA), and fine-tune from them."""
    if context.invoked_subcommand not in _FOR_JOBS:
        refuse_job(f"lora-da {context.invoked_subcommand}")
