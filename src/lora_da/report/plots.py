"""Plots, as PNG files. They need matplotlib, which the extra ``lora-da[cli]`` brings: the core can do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_da.report.layers import LayerReport, group_by_kind
from lora_da.system.files import atomic_path


def new_figure(columns: int) -> tuple[Any, Sequence[Any]]:
    """Return a figure with some axes side by side, for which no display is needed.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'lora-da[cli]'") from error
    figure = Figure(figsize=(5.5 * columns, 4), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(figure: Any, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a figure as a PNG, which appears whole or not at all."""
    with atomic_path(path, overwrite=overwrite) as draft:
        figure.savefig(draft, dpi=120, format="png")


def plot_spectra(layers: Mapping[str, LayerReport], path: Path | str, *, overwrite: bool = False) -> None:
    """Draw Ω's leading eigenvalues and Δ's captured energy by rank: each kind of layer's median and range."""
    figure, (spectrum, energy) = new_figure(2)
    for kind, group in group_by_kind(layers).items():
        eigenvalues = [[max(-value, 0.0) / max(-layer.eigenvalues[0], 1e-300) for value in layer.eigenvalues]
                       for layer in group]  # fmt: skip
        _band(spectrum, eigenvalues, kind)
        _band(energy, [list(layer.captured_energy) for layer in group], kind)
    spectrum.set(xlabel="index of the eigenvalue", ylabel="−ω relative to the first", yscale="log", ylim=(1e-4, 1.5))
    spectrum.set_title("Leading eigenvalues of Ω (negative ones gain)")
    energy.set(xlabel="rank", ylabel="share of ‖Δ‖² captured", ylim=(0, 1.02), title="Energy of Δ captured")
    energy.legend(fontsize=8)
    save_figure(figure, path, overwrite=overwrite)


def _band(axes: Any, curves: Sequence[Sequence[float]], label: str) -> None:
    """The median of some curves and the range of the middle half; ranks that not all have end the curve."""
    length = min(len(curve) for curve in curves)
    columns = [sorted(curve[index] for curve in curves) for index in range(length)]
    steps = range(1, length + 1)
    quarter = [column[len(column) // 4] for column in columns]
    upper = [column[(3 * len(column)) // 4] for column in columns]
    (line,) = axes.plot(steps, [column[len(column) // 2] for column in columns], label=label, marker=".")
    axes.fill_between(steps, quarter, upper, alpha=0.15, color=line.get_color())


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
