"""``lora-da inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options
from lora_da.cli.stopping import keeping


def inspect(
    source: Annotated[
        Path, typer.Argument(help="An adapter folder made by lora-da, or a statistics file.", show_default=False)
    ],
    rank: Annotated[int, typer.Option(help="With a statistics file: how far to follow the spectra.")] = 64,
    preset: options.Preset = options.DEFAULT_PRESET,
    plot: Annotated[
        Path | None,
        typer.Option(help="Where the plot goes; by default to spectra.png in the folder, or beside the file."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Show the spectra of an adapter or of saved statistics, so that a rank can be chosen."""
    from lora_da.cli.show import show_table
    from lora_da.report.layers import tabulate_layers
    from lora_da.report.plots import plot_spectra
    from lora_da.system.files import refuse_existing, refuse_overlap
    from lora_da.workflows.inspect import ranks_needed, reports_of

    usual = source / "spectra.png" if source.is_dir() else source.with_suffix(".png")
    if plot is not None and source.exists():
        refuse_existing(plot, overwrite=overwrite)
        refuse_overlap({"the plot": plot}, {"the file": source if source.is_file() else source / "adapter_config.json"})
        refuse_overlap({"the plot": plot}, {"the adapter's file": source / "adapter_model.safetensors"})
    with keeping():
        layers = reports_of(source, rank, preset)
    header, *rows = tabulate_layers(layers)
    show_table(header, rows, title=str(source))
    header, *rows = ranks_needed(layers)
    show_table(header, rows, title="Rank that captures a share of Δ's energy (median over the layers of a kind)")
    if plot is None and usual.exists() and not overwrite:
        print(f"plot: {usual} is there already and stays as it is (--overwrite replaces it)")
    else:
        plot_spectra(layers, plot or usual, overwrite=True)
        print(f"plot: {plot or usual}")
