"""Commands that are elsewhere now, which say what to type."""

from __future__ import annotations

import typer

_INSTEAD = {
    "train": "lora-da sft --model_name_or_path MODEL --dataset_name DATA --output_dir FOLDER "
    "(it takes the options of `trl sft`; see lora-da sft --help)",
    "compare": "lora-da-bench compare (pip install ./bench, from a clone of lora-da)",
    "evaluate": "lm_eval --model hf --model_args pretrained=MODEL,peft=ADAPTER --tasks TASK (pip install lm-eval)",
}


def add_moved_commands(app: typer.Typer) -> None:
    """Add the old names, hidden from help, to an application."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name in _INSTEAD:
        app.command(name, hidden=True, context_settings=settings)(_tell)


def _tell(context: typer.Context) -> None:
    raise ValueError(f"there is no command {context.info_name!r} any more; type: {_INSTEAD[str(context.info_name)]}")
