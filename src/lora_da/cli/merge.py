"""``lora-da merge-statistics``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options
from lora_da.cli.early_checks import check_statistics
from lora_da.cli.stopping import keeping
from lora_da.system.files import refuse_existing, refuse_overlap


def merge_statistics(
    files: Annotated[list[Path], typer.Argument(help="Files of `lora-da init --save-statistics`, at least two.")],
    output: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    population_size: Annotated[
        int | None,
        typer.Option(help="How many examples fine-tuning will see; some presets need it to solve from the result."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Add up the statistics of separate jobs, each of which read other examples of the same data.

    `lora-da init MODEL --statistics FILE` makes an adapter from the sum.
    """
    if len(files) < 2:
        raise typer.BadParameter("give at least two files")
    check_statistics(*files)
    refuse_overlap(
        {"the output": output}, {f"the file {place} of statistics,": file for place, file in enumerate(files, 1)}
    )
    refuse_existing(output, overwrite=overwrite)
    from lora_da.statistics.storage import identify_file, load_statistics, save_statistics
    from lora_da.workflows.own_outputs import check_statistics_file

    if len({identify_file(file) for file in files}) < len(files):
        raise typer.BadParameter("two of the files are the same: their examples would count twice")
    check_statistics_file(output)
    with keeping():
        total = load_statistics(files[0])
        for file in files[1:]:
            try:
                total = total + load_statistics(file)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
        total = dataclasses.replace(total, population_size=population_size)
        save_statistics(total, output, overwrite=overwrite)
    print(f"{len(total.layers)} layers, {total.examples:,} examples; written: {output}")
