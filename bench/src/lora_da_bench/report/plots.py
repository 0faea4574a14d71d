"""The plots of a comparison, as SVG; a method looks the same in all of them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from lora_da_bench.analysis.significance import Estimate
from lora_da_bench.analysis.summary import RankSummary, Summary
from lora_da_bench.experiment.description import VANILLA

# Okabe and Ito's colours, which colour-blind people can tell apart, without the yellow that white paper swallows.
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")


def choose_styles(methods: Sequence[str]) -> dict[str, dict[str, str]]:
    """Choose colour, line and marker by method; past seven methods colours come again with other lines."""
    return {
        method: {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _LINES[index // len(_COLOURS) % len(_LINES)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        for index, method in enumerate(methods)
    }


def plot_learning_rates(rank: RankSummary) -> Figure:
    """Draw the sweep: mean validation loss at each learning rate's best step, and the range of the seeds.

    Losses above that of the untrained model, and runs that diverged or failed, are crosses at the upper edge.
    """
    figure, axes = _new_figure()
    vanilla = next(method for method in rank.methods if method.name == VANILLA)
    top = vanilla.figures.get("step0_loss", math.inf)
    above = False
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        points = [point for point in method.grid if point.loss is not None]
        outside = [point.learning_rate for point in points if not (point.loss or 0) <= top]
        edge = {"color": look["color"], "transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(outside, [0.98] * len(outside), "x", **edge)
        above = above or bool(outside)
        shown = [point for point in points if point.low is not None]
        _draw_range(axes, [point.learning_rate for point in shown], shown, method.name, look)
        if method.selection is not None:
            chosen = method.selection.learning_rate, method.selection.validation_loss
            axes.plot(*chosen, "o", color=look["color"], markersize=10, fillstyle="none")
    if above and math.isfinite(top):
        axes.set_ylim(top=top)
    axes.set(xlabel="learning rate", ylabel="validation loss (nats per label)", xscale="log")
    axes.set_title(f"Sweep, rank {rank.rank}; ○ selected, × above the untrained model or diverged", fontsize=9)
    return _with_legend(figure, axes)


def plot_losses(rank: RankSummary) -> Figure:
    """Draw validation losses along the final runs: the mean and the range of the fresh seeds."""
    figure, axes = _new_figure()
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        _draw_range(axes, [point.step for point in method.curve], method.curve, method.name, look)
    axes.set(xlabel="step", ylabel="validation loss (nats per label)")
    axes.set_title(f"Final runs at the selected learning rates, rank {rank.rank}", fontsize=9)
    return _with_legend(figure, axes)


def plot_ranks(summary: Summary) -> Figure:
    """Draw each method's test loss against the rank, with standard errors."""
    figure, axes = _new_figure()
    for index, look in enumerate(_looks(summary.ranks[0])):
        found = [(rank.rank, rank.methods[index].test_loss) for rank in summary.ranks]
        points = [(rank, loss.mean, _error(loss)) for rank, loss in found if loss is not None]
        if points:
            ranks, losses, errors = zip(*points, strict=True)
            name = summary.ranks[0].methods[index].name
            axes.errorbar(ranks, losses, yerr=errors, label=name, markersize=4, capsize=2, **look)
    axes.set(xlabel="rank", ylabel="test loss (nats per label)")
    axes.set_xscale("log", base=2)
    axes.set_xticks([rank.rank for rank in summary.ranks], [str(rank.rank) for rank in summary.ranks])
    axes.set_title("Final runs by rank; bars are standard errors over seeds and items", fontsize=9)
    return _with_legend(figure, axes)


def plot_pareto(rank: RankSummary) -> Figure:
    """Draw accuracy, or test loss where accuracy says little, against the seconds of initialisation and training."""
    figure, axes = _new_figure()
    by_accuracy = rank.accuracy is not None and not rank.low_accuracy
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        quality = method.accuracy if by_accuracy else method.test_loss
        if quality is not None:
            point: dict[str, Any] = {"label": method.name, "capsize": 2} | look | {"linestyle": "none"}
            axes.errorbar([method.seconds], [quality.mean], yerr=[_error(quality)], **point)
    label = "accuracy (higher is better)" if by_accuracy else "test loss (nats per label; lower is better)"
    axes.set(xlabel="seconds of initialisation and training", ylabel=label)
    axes.set_title(f"Final runs, rank {rank.rank}; bars are standard errors over seeds and items", fontsize=9)
    return _with_legend(figure, axes)


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if estimate.estimable else 0.0


def render_svg(figure: Figure) -> bytes:
    """Render a figure; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lora-da-bench"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _looks(rank: RankSummary) -> Iterable[dict[str, str]]:
    return choose_styles([method.name for method in rank.methods]).values()


def _draw_range(axes: Any, at: Sequence[float], points: Sequence[Any], name: str, look: dict[str, str]) -> None:
    """Draw losses as a line, and a band from their ``low`` to their ``high``."""
    if at:
        axes.plot(at, [point.loss for point in points], label=name, markersize=4, **look)
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(at, low, high, alpha=0.15, color=look["color"], linewidth=0)


def _new_figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    return figure, figure.subplots()


def _with_legend(figure: Figure, axes: Any) -> Figure:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7)
    return figure
