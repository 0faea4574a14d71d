"""``lora-da inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options
from lora_da.cli.early_checks import check_inspect
from lora_da.cli.stopping import keeping


def inspect(
    source: Annotated[
        Path, typer.Argument(help="An adapter folder made by lora-da, or a statistics file.", show_default=False)
    ],
    rank: Annotated[int, typer.Option(help="With a statistics file: how far to follow the spectra.")] = 64,
    rank_budget: Annotated[
        int, typer.Option(min=1, help="Suggest ranks with as many parameters as this rank has in every layer.")
    ] = 8,
    preset: options.Preset = options.DEFAULT_PRESET,
    page: Annotated[
        Path | None,
        typer.Option(help="Where the page goes; by default to lora_da.html in the folder, or beside the file."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Show what an initialisation found, or saved statistics hold, and write it as a page with pictures."""
    check_inspect(source, preset)
    from lora_da.cli.show import show_table
    from lora_da.report.ranks import tabulate_needed_ranks
    from lora_da.workflows.inspect import check_page, read_report, write_page
    from lora_da.workflows.own_outputs import PAGE

    target = page or (source / PAGE if source.is_dir() else source.with_suffix(".html"))
    if source.exists():
        check_page(target, source, overwrite=overwrite)
    with keeping():
        report = read_report(source, rank, preset)
        print(report)
        header, *rows = tabulate_needed_ranks(report.layers)
        show_table(header, rows, title="Rank that keeps a share of the energy (median over the layers of a kind)")
        write_page(report, target, source, rank_budget, overwrite=overwrite)
    print(f"page: {target}")
