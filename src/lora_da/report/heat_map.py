"""A figure of each layer as colours, over depth and kind of layer."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from lora_da.report.layers import kind_of
from lora_da.report.svg import Markup, path, picture, tag

_CELL, _ROW, _TOP, _LETTER = 18.0, 22.0, 6.0, 6.6
_LEGEND = 190.0
_FAINTEST = 0.08  # so that a layer's cell can be told from none


def draw_heat_map(
    values: Mapping[str, float],
    what: str,
    form: str,
    *,
    crossed_below: float | None = None,
) -> Markup:
    """Draw a figure of some layers, the darker (on white) the higher; layers of one kind and depth are one cell.

    Args:
        values: The figure by the layer's name.
        what: What it is, in a few words.
        form: The format in which values are written.
        crossed_below: Cells below this are crossed out, and colours go by the logarithm.
    """
    cells, depths = _cells(values)
    rows = list(dict.fromkeys(row for row, _ in cells))
    found = {key: median(value for _, value in group) for key, group in cells.items()}
    low, high = min(found.values()), max(found.values())
    left = _LETTER * max(map(len, rows)) + 12
    bottom = _TOP + _ROW * len(rows)
    parts: list[Markup] = []
    for number, row in enumerate(rows):
        parts.append(tag("text", row, x=left - 6, y=_TOP + _ROW * (number + 0.5) + 4, text_anchor="end"))
        for column, depth in enumerate(depths):
            if (row, depth) in found:
                x, y, value = left + _CELL * column, _TOP + _ROW * number, found[row, depth]
                told = tag("title", _told(cells[row, depth], format(value, form)))
                parts.append(_square(x, y, _shade(value, low, high, logarithmic=crossed_below is not None), told))
                if crossed_below is not None and value < crossed_below:
                    parts.append(path([(x + 3, y + _ROW - 5), (x + _CELL - 4, y + 4)], class_="mark"))
    every = max(1, math.ceil(len(depths) / 12))
    for column, depth in enumerate(depths):
        if depth is not None and column % every == 0:
            x = left + _CELL * (column + 0.5)
            parts.append(tag("text", depth, x=x, y=bottom + 13, text_anchor="middle", class_="small"))
    parts += _legend(left, bottom + 24, format(low, form), format(high, form))
    label = f"{what} by depth (across) and kind of layer (down): {low:{form}} to {high:{form}}"
    return picture(max(left + _CELL * len(depths), left + _LEGEND), bottom + 44, label, *parts)


def _cells(
    values: Mapping[str, float],
) -> tuple[dict[tuple[str, int | None], list[tuple[str, float]]], Sequence[int | None]]:
    """The layers of each cell with their values, and the depths in order; the last is that of layers without a number.

    Kinds that several stacks of layers have, such as an encoder and a decoder, are rows of their own.
    """
    stacks: dict[str, set[str]] = defaultdict(set)
    for name in values:
        stacks[kind_of(name)].add(_place(name)[0])
    cells: dict[tuple[str, int | None], list[tuple[str, float]]] = defaultdict(list)
    for name, value in values.items():
        kind, (stack, depth) = kind_of(name), _place(name)
        row = f"{stack}: {kind}" if len(stacks[kind]) > 1 and stack else kind
        cells[row, depth].append((name, value))
    depths = {depth for _, depth in cells}
    return cells, [*sorted(depth for depth in depths if depth is not None), *({None} & depths)]


def _place(name: str) -> tuple[str, int | None]:
    """What stands before a name's first number, and that number."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return (name[: found.start()], int(found[1])) if found else ("", None)


def _told(group: Sequence[tuple[str, float]], value: str) -> str:
    name, others = group[0][0], len(group) - 1
    return f"{name} and {others} more: {value} (median)" if others else f"{name}: {value}"


def _shade(value: float, low: float, high: float, *, logarithmic: bool) -> float:
    """How dark a value is, from the faintest shade to 1."""
    if logarithmic and low > 0:
        value, low, high = (math.log(number) for number in (value, low, high))
    share = (value - low) / (high - low) if high > low else 0.5
    return _FAINTEST + (1 - _FAINTEST) * share


def _square(x: float, y: float, shade: float, told: Markup) -> Markup:
    return tag("rect", told, x=x, y=y, width=_CELL - 1, height=_ROW - 1, fill_opacity=round(shade, 3), class_="heat")


def _legend(x: float, y: float, low: str, high: str) -> list[Markup]:
    parts = [tag("text", low, x=x, y=y + 12, class_="small")]
    start = x + 8 + _LETTER * len(low)
    for step in range(6):
        shade = _FAINTEST + (1 - _FAINTEST) * step / 5
        parts.append(tag("rect", x=start + 12 * step, y=y + 2, width=12, height=12, fill_opacity=shade, class_="heat"))
    return [*parts, tag("text", high, x=start + 80, y=y + 12, class_="small")]
