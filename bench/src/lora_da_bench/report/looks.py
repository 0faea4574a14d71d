"""How plots look: a method has the same colour in every figure of every report, on light and on dark pages."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"
"""What stands for the text's own colour until the SVG is written, which no other colour is."""

# After Okabe and Ito: colour-blind people can tell them apart, and each has three times the luminance of black and a
# third of that of white, or nearly.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#B87D00", "#2E8FC7", "#7F7F7F")
_LINES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")

_KNOWN = {"lora": INK} | dict(
    zip(("lora-da", "lora-one", "pissa", "eva", "lora-ga-peft", "corda", "random-subspace"), _COLOURS, strict=True)
)

# An image of its own on a page asks for the scheme itself.
_STYLE = "<style>svg { color: #1c1d1f } @media (prefers-color-scheme: dark) { svg { color: #e6e7e9 } }</style>"


def choose_styles(methods: Sequence[str]) -> dict[str, dict[str, str]]:
    """Choose colour, line and marker by method.

    Those that are compared most have a colour of their own, with A frozen too, when their lines are dashed; others take
    what is left, in their order.
    """
    taken = [(_KNOWN.get(method.partition("+")[0]), "--" if "+" in method else "-") for method in methods]
    free = (look for look in itertools.product(_LINES, _COLOURS) if (look[1], look[0]) not in taken)
    looks = {}
    for index, (method, (colour, line)) in enumerate(zip(methods, taken, strict=True)):
        if colour is None:
            line, colour = next(free)
        looks[method] = {"color": colour, "linestyle": line, "marker": _MARKERS[index % len(_MARKERS)]}
    return looks


def new_figure(height: float = 4) -> tuple[Figure, Any]:
    """Return a figure and its axes, transparent and in the text's colour."""
    figure = Figure(figsize=(5.5, height), layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.tick_params(which="both", color=INK, labelcolor=INK)
    axes.spines[:].set_color(INK)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(INK)
    return figure, axes


def with_legend(figure: Figure, axes: Any) -> Figure:
    """Add a legend if there is anything to name."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, labelcolor=INK, framealpha=0)
    return figure


def render_svg(figure: Figure) -> bytes:
    """Render a figure; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lora-da-bench", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    drawn = stream.getvalue().decode("utf-8").replace(INK, "currentColor")
    # What has no colour in the file is black: text that is text.
    drawn = drawn.replace('<g id="figure_1">', f'{_STYLE}\n <g id="figure_1" fill="currentColor">', 1)
    return drawn.encode("utf-8")
