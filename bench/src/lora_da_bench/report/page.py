"""The parts of a report as Markdown, and a whole report as one HTML file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence

from markdown_it import MarkdownIt


class Strong(str):
    """Text in bold."""

    __slots__ = ()


def escape_text(text: str) -> str:
    """Write text so that Markdown shows it as it is, on one line."""
    # Brackets and "<" mean something only before certain others; elsewhere a backslash would only be hard to read.
    plain = re.sub(r"[\\`*_|]|\](?=[(\[:])|<(?=[A-Za-z/!?])", r"\\\g<0>", " ".join(text.split()))
    return f"**{plain}**" if isinstance(text, Strong) else plain


def write_heading(level: int, title: str) -> str:
    """Write a heading; level 1 is the title."""
    return f"{'#' * level} {escape_text(title)}"


def write_bullets(sentences: Iterable[str]) -> str:
    """Write a list of sentences."""
    return "\n".join(f"- {escape_text(sentence)}" for sentence in sentences)


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: bool = False) -> str:
    """Write a table; its first column is text, the others are numbers, or text where ``text`` says so."""
    rule = ["---" if text or column == 0 else "---:" for column in range(len(header))]
    escaped = [[escape_text(cell) for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (escaped[0], rule, *escaped[1:]))


def write_image(file: str, caption: str) -> str:
    """Write an image that lies beside the report."""
    return f"![{escape_text(caption)}]({file})"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Comparison of initialisations</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; margin: 1em 0; font-size: 13px; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25em .7em; vertical-align: top; }}
img {{ max-width: 100%; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def render_html(markdown: str, images: Mapping[str, bytes]) -> str:
    """Render a report as one HTML file that needs no other; its SVGs are given by the names in the Markdown."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for name, content in images.items():
        encoded = base64.b64encode(content).decode("ascii")
        body = body.replace(f'src="{name}"', f'src="data:image/svg+xml;base64,{encoded}"')
    return _PAGE.format(body=body)
