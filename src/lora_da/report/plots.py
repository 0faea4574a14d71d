"""Plots, as PNG files. They need matplotlib, which the extra ``lora-da[cli]`` brings: the core can do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_da.system.extras import pip_line
from lora_da.system.files import atomic_path


def new_figure(columns: int) -> tuple[Any, Sequence[Any]]:
    """Return a figure with some axes side by side, for which no display is needed.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"plots need matplotlib: {pip_line('cli')}") from error
    figure = Figure(figsize=(5.5 * columns, 4), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(figure: Any, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a figure as a PNG, which appears whole or not at all."""
    with atomic_path(path, overwrite=overwrite) as draft:
        figure.savefig(draft, dpi=120, format="png")


def plot_rates(
    ends: Mapping[str, Mapping[float, float]], base: float, path: Path | str, *, overwrite: bool = False
) -> None:
    """Draw losses after training by learning rate, for each label, and that of the untouched base model as a level."""
    figure, (axes,) = new_figure(1)
    for label, losses in ends.items():
        axes.plot(list(losses), list(losses.values()), marker="o", label=label)
    axes.axhline(base, color="grey", linestyle=":", label="base model")
    axes.set(xlabel="learning rate", xscale="log", ylabel="held-out loss (nats per label token)")
    axes.legend()
    save_figure(figure, path, overwrite=overwrite)
