"""``lora-da merge-statistics``."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options


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
    from lora_da.statistics.storage import load_statistics, save_statistics

    if len(files) < 2:
        raise typer.BadParameter("give at least two files")
    contents = [_digest(file) for file in files if file.is_file()]
    if len({file.resolve() for file in files}) < len(files) or len(set(contents)) < len(contents):
        raise typer.BadParameter("two of the files are the same: their examples would count twice")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists already; choose another path, or give --overwrite to replace it")
    total = load_statistics(files[0])
    for file in files[1:]:
        try:
            total = total + load_statistics(file)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    total = dataclasses.replace(total, population_size=population_size)
    save_statistics(total, output, overwrite=overwrite)
    print(f"{len(total.layers)} layers, {total.examples:,} examples; written: {output}")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:  # in pieces: such files can be as large as the memory
        return hashlib.file_digest(file, "sha256").digest()
