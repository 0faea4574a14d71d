"""``lora-da demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options
from lora_da.cli.early_checks import check_demo
from lora_da.cli.stopping import keeping
from lora_da.loading.model_source import ModelSource
from lora_da.workflows.settings import DemoSettings


@options.with_fields
def demo(
    settings: DemoSettings,
    output: options.Output = Path("demo-output"),
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: about two minutes on two cores.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Show the main job on a small real model: LoRA-DA against plain LoRA, with nothing to download."""
    check_demo(settings, output, overwrite=overwrite)
    from lora_da.cli.show import show_table
    from lora_da.workflows.demo.comparison import CAVEAT, run_demo, table_of

    with keeping():
        results = run_demo(output, settings.quick() if quick else settings, overwrite=overwrite)
    header, *rows = table_of(results)
    show_table(header, rows, title="Worded arithmetic, held-out problems of other templates")
    print(CAVEAT)
    converted = ModelSource(settings.model).converted_folder(output / "lora")
    names = ["loss.png", "demo.json", "lora", "lora-da", *([converted.name] if converted else [])]
    print(f"written: {output} ({', '.join(names)})")
