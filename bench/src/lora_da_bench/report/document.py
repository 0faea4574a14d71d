"""A report as data, and the same report as Markdown and as HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment


class Strong(str):
    """Text in bold."""

    __slots__ = ()


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; its first column is text, the others are numbers, or text where ``text`` says so."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: bool = False


@dataclass(frozen=True)
class Image:
    """A PNG beside the report."""

    file: str
    caption: str


Block = str | Bullets | Table | Image


@dataclass(frozen=True)
class Section:
    """A heading (level 1 is the title) and what stands below it."""

    level: int
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def to_markdown(sections: Sequence[Section]) -> str:
    """The report as Markdown; images stay files beside it."""
    parts = []
    for section in sections:
        parts.append(f"{'#' * section.level} {_escaped(section.title)}")
        parts += [_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Image):
        return f"![{_escaped(block.caption)}]({block.file})"
    if isinstance(block, Table):
        rule = ["---" if block.text or column == 0 else "---:" for column in range(len(block.header))]
        rows = [[_escaped(cell) for cell in row] for row in (block.header, *block.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
    return _escaped(block)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    # Brackets and "<" mean something only before certain others; elsewhere a backslash would only be hard to read.
    plain = re.sub(r"[\\`*_|]|\](?=[(\[:])|<(?=[A-Za-z/!?])", r"\\\g<0>", " ".join(text.split()))
    return f"**{plain}**" if isinstance(text, Strong) else plain


_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ sections[0].title }}</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; }
th, td { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .text th, .text td { text-align: left; }
img { max-width: 100%; }
</style>
</head>
<body>
{% macro show(text) %}{% if text is strong %}<strong>{{ text }}</strong>{% else %}{{ text }}{% endif %}{% endmacro %}
{% for section in sections %}
<h{{ section.level }}>{{ section.title }}</h{{ section.level }}>
{% for block in section.blocks %}
{% if block is string %}
<p>{{ show(block) }}</p>
{% elif block is bullets %}
<ul>
{% for item in block.items %}
<li>{{ show(item) }}</li>
{% endfor %}
</ul>
{% elif block is image %}
<p><img src="data:image/png;base64,{{ images[block.file] }}" alt="{{ block.caption }}"></p>
{% else %}
<div><table{% if block.text %} class="text"{% endif %}>
<tr>{% for cell in block.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in block.rows %}
<tr>{% for cell in row %}<td>{{ show(cell) }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
{% endfor %}
{% endfor %}
</body>
</html>
"""


def to_html(sections: Sequence[Section], images: Mapping[str, bytes]) -> str:
    """The report as one HTML file that needs no other.

    Args:
        sections: The report.
        images: The PNGs by the names under which the report shows them.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for kind in (Strong, Bullets, Image):
        environment.tests[kind.__name__.lower()] = lambda value, kind=kind: isinstance(value, kind)
    encoded = {name: base64.b64encode(image).decode("ascii") for name, image in images.items()}
    return environment.from_string(_TEMPLATE).render(sections=sections, images=encoded) + "\n"
