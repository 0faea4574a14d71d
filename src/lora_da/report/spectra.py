"""The spectra as small pictures, one for each kind of layer: how far each direction stands above the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from lora_da.report.layers import LayerReport, group_by_kind
from lora_da.report.svg import Markup, line, path, picture, tag

_WIDTH, _HEIGHT = 230.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 8.0, 22.0, 24.0
_DECADES = 4.0  # below the largest value, nothing is drawn


def draw_spectra(layers: Mapping[str, LayerReport]) -> list[Markup]:
    """Draw each kind's directions: the median over its layers as a line, the middle half of them as a band.

    In the metric of the loss the values are singular values over the noise edge, which lies at 1; in that of the
    parameters the negative eigenvalues relative to each layer's first, where those that are no gain are left out.
    """
    groups = {kind: _curves(group) for kind, group in group_by_kind(layers).items()}
    by_noise = all(layer.noise_ratios is not None for layer in layers.values())
    positive = [value for curves in groups.values() for curve in curves for value in curve if value > 0] or [1.0]
    top = max(*positive, 1.0) * 1.2
    bottom = max(min(*positive, 1.0) / 1.2, top / 10**_DECADES)
    return [_panel(kind, curves, (bottom, top), by_noise=by_noise) for kind, curves in groups.items()]


def _curves(group: Sequence[LayerReport]) -> list[Sequence[float]]:
    known = [layer.noise_ratios for layer in group if layer.noise_ratios is not None]
    if len(known) == len(group):
        return list(known)
    return [[max(-value / abs(layer.eigenvalues[0] or 1), 0) for value in layer.eigenvalues] for layer in group]


def _panel(kind: str, curves: Sequence[Sequence[float]], limits: tuple[float, float], *, by_noise: bool) -> Markup:
    length = min(len(curve) for curve in curves)
    columns = [sorted(curve[index] for curve in curves) for index in range(length)]
    bottom, top = (math.log10(value) for value in limits)

    def at(index: int, value: float) -> tuple[float, float]:
        share = (math.log10(min(max(value, limits[0]), limits[1])) - bottom) / (top - bottom)
        x = _LEFT + (index + 0.5) / length * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    low = [at(index, column[len(column) // 4]) for index, column in enumerate(columns)]
    high = [at(index, column[(3 * len(column)) // 4]) for index, column in enumerate(columns)]
    middle = [column[len(column) // 2] for column in columns]
    points = [at(index, value) for index, value in enumerate(middle)]
    above = sum(value > 1 for value in middle)
    label = f"{kind}: median of {len(curves)} layers, " + (
        f"{above} of {length} directions above the noise edge, the first at {middle[0]:.3g} times the noise"
        if by_noise
        else f"{sum(value > 0 for value in middle)} of {length} eigenvalues negative"
    )
    parts = [
        tag("text", kind if len(kind) < 32 else "…" + kind[-30:], x=4, y=14, class_="name"),
        *_axes(length, limits, at),
        path([*low, *reversed(high)], closed=True, class_="band"),
        path(points, class_="curve"),
        *(tag("circle", cx=x, cy=y, r=1.8, class_="dot") for x, y in points if length <= 20),
    ]
    if by_noise:
        y = at(0, 1.0)[1]
        parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y, class_="edge"))
        parts.append(tag("text", "noise", x=_WIDTH - _RIGHT, y=y - 3, text_anchor="end", class_="small"))
    return picture(_WIDTH, _HEIGHT, label, *parts)


def _axes(length: int, limits: tuple[float, float], at: Callable[[int, float], tuple[float, float]]) -> list[Markup]:
    parts = []
    steps = (1, 2, 5) if limits[1] / limits[0] < 100 else (1,)
    powers = range(math.floor(math.log10(limits[0])), math.ceil(math.log10(limits[1])))
    for value in (step * 10.0**power for power in powers for step in steps):
        if limits[0] <= value <= limits[1]:
            y = at(0, value)[1]
            parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y, class_="grid"))
            parts.append(tag("text", f"{value:g}", x=_LEFT - 4, y=y + 4, text_anchor="end", class_="small"))
    for index in sorted({0, length // 2, length - 1}):
        x = at(index, limits[0])[0]
        parts.append(tag("text", index + 1, x=x, y=_HEIGHT - 8, text_anchor="middle", class_="small"))
    return parts
