"""The plots of a comparison, as SVG; a method looks the same in all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from lora_da_bench.analysis.significance import Difference, Estimate
from lora_da_bench.analysis.summary import RankSummary, Summary
from lora_da_bench.experiment.description import VANILLA
from lora_da_bench.report.looks import INK, choose_styles, new_figure, with_legend


def plot_learning_rates(rank: RankSummary) -> Figure:
    """Draw the sweep: mean validation loss at each learning rate's best step, and the range of the seeds.

    The figure ends a little above the loss of the untrained model. Losses beyond, and runs that diverged or failed, are
    named at the upper edge, where their curves leave it.
    """
    figure, axes = new_figure()
    lowest, untrained, top = _limits(rank)
    beyond: dict[float, int] = {}
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        shown = [point for point in method.grid if point.low is not None]
        _draw_range(axes, [point.learning_rate for point in shown], shown, method.name, look)
        for point in method.grid:
            if point.loss is not None and not point.loss <= top:
                beyond[point.learning_rate] = beyond.get(point.learning_rate, 0) + 1
                _name_at_edge(axes, point.learning_rate, point.loss, beyond[point.learning_rate], look["color"])
        if method.selection is not None:
            chosen = method.selection.learning_rate, method.selection.validation_loss
            axes.plot(*chosen, "o", color=look["color"], markersize=10, fillstyle="none")
    if beyond and math.isfinite(top):
        axes.set_ylim(lowest - 0.06 * (untrained - lowest), top)
        axes.axhline(untrained, color=INK, linewidth=0.8, linestyle=":")
        place = {"xytext": (4, 3), "textcoords": "offset points", "xycoords": axes.get_yaxis_transform()}
        axes.annotate("untrained", (0.0, untrained), color=INK, fontsize=7, **place)
    axes.set(xlabel="learning rate", ylabel="validation loss (nats per label)", xscale="log")
    axes.set_title(f"Sweep, rank {rank.rank}; ○ selected, × beyond the figure", fontsize=9)
    return with_legend(figure, axes)


def _limits(rank: RankSummary) -> tuple[float, float, float]:
    """The lowest loss of a seed, that of the untrained model, and where the figure ends; infinite if not known."""
    vanilla = next(method for method in rank.methods if method.name == VANILLA)
    untrained = vanilla.figures.get("step0_loss", math.inf)
    lowest = min((point.low for method in rank.methods for point in method.grid if point.low is not None), default=0.0)
    if not lowest < untrained < math.inf:
        return lowest, math.inf, math.inf
    return lowest, untrained, untrained + 0.2 * (untrained - lowest)


def plot_differences(rank: RankSummary) -> Figure:
    """Draw each method's test loss minus plain LoRA's with its interval; hollow where LoRA has the same time."""
    equal = {charged.method: charged.loss for charged in rank.charged}
    rows: list[tuple[str, Difference, dict[str, str], bool]] = []
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        found = rank.loss.comparison.differences.get((method.name, VANILLA))
        rows += [(method.name, found, look, False)] if found is not None else []
        rows += [(f"{method.name}, equal time", equal[method.name], look, True)] if method.name in equal else []
    figure, axes = new_figure(1.2 + 0.32 * len(rows))
    for height, (_, difference, look, hollow) in enumerate(rows):
        error = (difference.high - difference.low) / 2 if difference.estimable else 0.0
        fill: dict[str, Any] = {"color": look["color"], "markerfacecolor": "none" if hollow else look["color"]}
        axes.errorbar([difference.mean], [height], xerr=[error], fmt=look["marker"], capsize=3, markersize=6, **fill)
        if not difference.estimable:
            axes.annotate("no interval", (difference.mean, height), (8, -3), textcoords="offset points", color=INK)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="← better\u2003test loss minus LoRA's (nats per label)\u2003worse →")
    axes.set_title(f"Differences from {VANILLA}, rank {rank.rank}; simultaneous 95 % intervals", fontsize=9)
    return figure


def has_differences(rank: RankSummary) -> bool:
    """Say whether any method is compared with plain LoRA."""
    return any(other == VANILLA for _, other in rank.loss.comparison.differences) and len(rank.loss.ranking) > 1


def _name_at_edge(axes: Any, rate: float, loss: float, place: int, colour: str) -> None:
    """Name a loss that lies beyond the upper edge, below others at the same rate."""
    text = f"× {loss:.2f}" if math.isfinite(loss) else "× diverged"
    below = {"xytext": (0, -10 * place), "textcoords": "offset points", "fontsize": 7, "ha": "right"}
    axes.annotate(text, (rate, 1.0), xycoords=axes.get_xaxis_transform(), color=colour, **below)


def plot_losses(rank: RankSummary) -> Figure:
    """Draw validation losses along the final runs: the mean and the range of the fresh seeds."""
    figure, axes = new_figure()
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        _draw_range(axes, [point.step for point in method.curve], method.curve, method.name, look)
    axes.set(xlabel="step", ylabel="validation loss (nats per label)")
    axes.set_title(f"Final runs at the selected learning rates, rank {rank.rank}", fontsize=9)
    return with_legend(figure, axes)


def plot_ranks(summary: Summary) -> Figure:
    """Draw each method's test loss against the rank, with standard errors."""
    figure, axes = new_figure()
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
    return with_legend(figure, axes)


def plot_pareto(rank: RankSummary) -> Figure:
    """Draw accuracy, or test loss where accuracy says little, against the seconds of initialisation and training."""
    figure, axes = new_figure()
    by_accuracy = rank.accuracy is not None and not rank.low_accuracy
    for method, look in zip(rank.methods, _looks(rank), strict=True):
        quality = method.accuracy if by_accuracy else method.test_loss
        if quality is not None:
            point: dict[str, Any] = {"label": method.name, "capsize": 2} | look | {"linestyle": "none"}
            axes.errorbar([method.seconds], [quality.mean], yerr=[_error(quality)], **point)
    label = "accuracy (higher is better)" if by_accuracy else "test loss (nats per label; lower is better)"
    axes.set(xlabel="seconds of initialisation and training", ylabel=label)
    axes.set_title(f"Final runs, rank {rank.rank}; bars are standard errors over seeds and items", fontsize=9)
    return with_legend(figure, axes)


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if estimate.estimable else 0.0


def _looks(rank: RankSummary) -> Iterable[dict[str, str]]:
    return choose_styles([method.name for method in rank.methods]).values()


def _draw_range(axes: Any, at: Sequence[float], points: Sequence[Any], name: str, look: dict[str, str]) -> None:
    """Draw losses as a line, and a band from their ``low`` to their ``high``."""
    if at:
        axes.plot(at, [point.loss for point in points], label=name, markersize=4, **look)
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(at, low, high, alpha=0.15, color=look["color"], linewidth=0)
