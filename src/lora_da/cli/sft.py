"""``lora-da sft``."""

from __future__ import annotations

import typer

from lora_da.cli.early_checks import check_sft
from lora_da.cli.stopping import keeping

# TRL's parser reads the whole command line, `--help` included.
CONTEXT_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def sft(context: typer.Context) -> None:
    """Fine-tune by TRL from an adapter initialised by LoRA-DA: `trl sft`, with all its options and --config FILE."""
    if not {"--help", "-h"} & {*context.args}:
        check_sft(context.args)
    from lora_da.workflows.checkpoints import tell_checkpoint
    from lora_da.workflows.sft.arguments import parse_arguments
    from lora_da.workflows.sft.fine_tuning import fine_tune

    arguments = parse_arguments(context.args)
    with keeping(lambda: tell_checkpoint(arguments.output)):
        fine_tune(arguments)
