"""The parts of a report as Markdown, and a whole report as one HTML file."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

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
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c1d1f; --paper: #fff; --line: #c9ccd1; --accent: #0b62a8;
  --better: #14663a; --worse: #a3161c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e7e9; --paper: #15171a; --line: #44484e; --accent: #74b9f3;
  --better: #83d8a4; --worse: #ff9d96; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 100rem; margin: 1.5rem auto 3rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }}
p, ul {{ max-width: 60rem; }}
h1 {{ overflow-wrap: anywhere; }}
a {{ color: var(--accent); }}
nav {{ display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; border-block: 1px solid var(--line); padding: .5rem 0; }}
.scroll {{ overflow-x: auto; margin: 1rem 0; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .25em .7em; vertical-align: top; }}
td[style*=right] {{ white-space: nowrap; }}
.better, .worse {{ font-weight: 600; }}
.better {{ color: var(--better); }} .better::before {{ content: "✓ "; }}
.worse {{ color: var(--worse); }} .worse::before {{ content: "✗ "; }}
img {{ max-width: 100%; }}
p:has(> img) {{ display: inline-block; margin: .5rem 1.5rem .5rem 0; vertical-align: top; }}
</style>
</head>
<body>
<nav aria-label="Sections">{links}</nav>
<main>
{body}</main>
</body>
</html>
"""


def render_html(markdown: str, images: Mapping[str, bytes]) -> str:
    """Render a report as one HTML file that needs no other; its SVGs are given by the names in the Markdown."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    links, title, headings = [], "Report", 0
    tokens = parser.parse(markdown)
    for token, inner in itertools.pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in inner.children or [])
            title = text if token.tag == "h1" else title
            token.attrSet("id", f"section-{headings}")
            if token.tag == "h2":
                links.append(f'<a href="#section-{headings}">{escape(text)}</a>')
            headings += 1
    body = parser.renderer.render(tokens, parser.options, {})
    body = re.sub(r"<td( style=\"[^\"]*\")?>(better|worse)</td>", r'<td\1 class="\2">\2</td>', body)
    body = re.sub(r"<thead>\s*<tr>\s*(?:<th[^>]*></th>\s*)+</tr>\s*</thead>", "", body)  # a heading without words
    body = body.replace("<th>", '<th scope="col">').replace("<th style", '<th scope="col" style')
    scrolling, number = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table {}"><table>',
        itertools.count(1),
    )
    body = re.sub("<table>", lambda _: scrolling.format(next(number)), body).replace("</table>", "</table></div>")
    for name, content in images.items():
        encoded = base64.b64encode(content).decode("ascii")
        body = body.replace(f'src="{name}"', f'src="data:image/svg+xml;base64,{encoded}"')
    return _PAGE.format(title=escape(title), links="\n".join(links), body=body)
