"""Markup of HTML and SVG from its parts; whatever is not markup is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def tag(name: str, *parts: object, **attributes: object) -> Markup:
    """Write an element; parts that are no :class:`Markup` are escaped.

    Attributes with the value None are left out; numbers are rounded to two places; ``class_`` is written ``class``,
    ``aria_label`` ``aria-label``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(parts)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Write parts one after the other; those that are no :class:`Markup` are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts))


def picture(width: float, height: float, label: str, *parts: object) -> Markup:
    """Write a picture in pixels that is read out as its label; it shrinks with the page and grows no larger."""
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """Write a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def path(points: Iterable[tuple[float, float]], *, closed: bool = False, **attributes: object) -> Markup:
    """Write a line through points, or the area within."""
    drawn = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")
    return tag("path", d=drawn, **attributes)


def table(caption: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """Write a table whose first column names the rows; where it is wider than the page it scrolls by itself."""
    heads = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    body = []
    for name, *cells in rows:
        body.append(tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells)))
    whole = tag("table", tag("caption", caption), tag("thead", heads), tag("tbody", *body))
    return scrolling(caption, whole)


def scrolling(label: str, content: Markup) -> Markup:
    """Write what may be wider than the page, so that the keyboard can scroll it."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
