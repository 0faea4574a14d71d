"""The trained adapter: saved apart, and moved among a run's other files once it is whole."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lora_da.system.files import move_into, sweep
from lora_da.system.locks import hold
from lora_da.workflows.job import writing_together

_DRAFT = ".adapter.training.unfinished"  # a name that sweep knows


def sweep_trained(output: Path) -> None:
    """Remove what a run that was killed has left of its trained adapter."""
    sweep(output / "adapter")


def save_trained(trainer: Any, output: Path) -> None:
    """Save the adapter of a trainer into its run's folder, where ``adapter_config.json`` appears after all else.

    All processes of a job have to call.
    """
    draft, saves = output / _DRAFT, trainer.args.should_save
    with ExitStack() as clearing:
        with writing_together():
            if saves:
                draft.mkdir(parents=True)
                clearing.enter_context(hold(draft))
                clearing.callback(shutil.rmtree, draft, ignore_errors=True)
                card = output / "README.md"  # which PEFT adds to
                if card.is_file():
                    shutil.copy(card, draft)
        with writing_together():
            trainer.save_model(str(draft), _internal_call=True)  # is not pushed to the hub from there
        with writing_together():
            if saves:
                move_into(draft, output, last="adapter_config.json")
