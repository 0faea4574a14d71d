"""The model card, read by a parser of YAML and one of Markdown: names and report are as they were given."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lora_da.config import LoraDAConfig
from lora_da.report.initialization import InitializationReport
from lora_da.workflows.model_card import word_card

REPORT = InitializationReport(
    layers={},
    kept_default={},
    examples=7,
    population_size=None,
    loss_before=None,
    loss_after=None,
    seconds={"solve": 1.0},
    peak_memory_bytes=None,
    batch_dependent=False,
    notices=(),
    config=LoraDAConfig(),
)


def _unescaped(text: str) -> str:
    """What stands for characters without a shape, as those."""
    code = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
    return code.sub(lambda match: chr(int(next(filter(None, match.groups())), 16)), text)


def _shown(markdown: str) -> list[Any]:
    """The headings, code spans and code blocks that a reader sees."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    inner = [child for token in tokens for child in token.children or []]
    return [
        [token.tag for token in tokens if token.type == "heading_open"],
        [child.content for child in inner if child.type == "code_inline"],
        [token.content for token in tokens if token.type == "fence"],
        [child.content for child in inner if child.type == "html_inline"],
    ]


_NAMES = [
    "org/model", "a: b", "# no comment", "- x", "{x}", "'", '"', "back\\slash",
    "`", "``", "a`b``c", " padded ", " ", "|",
    "---", "*x*", "<b>", "two\nlines", "end\n---\n# heading", "\x85\u2028", "\x7f", "\ud83d", "😀", "yes", "1.0", "~",
]  # fmt: skip


def _check_name(name: str) -> None:
    head, _, body = word_card(name, REPORT).removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head) == {"base_model": name, "library_name": "peft", "tags": ["lora", "lora-da"]}
    headings, spans, blocks, html = _shown(body)
    assert headings == ["h1"]
    assert spans[1:] == ["lora_da.json"]
    assert spans[0] == name or _unescaped(spans[0]) == name
    assert blocks[1:] == [f"{REPORT}\n"]
    assert not html


@pytest.mark.parametrize("name", _NAMES)
def test_names_are_read_as_they_are(name: str) -> None:
    _check_name(name)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="\\"), min_size=1))
def test_any_name_is_read_as_it_is(name: str) -> None:
    _check_name(name)


@pytest.mark.parametrize(
    "notice", ["```", "~~~", "````\n# heading", "a [red]layer[/red] of `x`", "    indented", "</pre>"]
)
def test_the_report_is_read_as_it_is(notice: str) -> None:
    told = dataclasses.replace(REPORT, notices=(notice,))
    headings, spans, blocks, _ = _shown(word_card("org/model", told).partition("\n---\n")[2])
    assert headings == ["h1"]
    assert spans == ["org/model", "lora_da.json"]
    assert blocks[1] == f"{told}\n"


@pytest.mark.parametrize(
    ("scale", "length", "zero"),
    [
        ("zero", None, True),
        ("searched", None, True),
        ("searched", 0.0, True),
        ("searched", 0.1, False),
        ("stable", None, False),
    ],
)
def test_it_says_whether_b_is_zero(scale: Any, length: float | None, zero: bool) -> None:
    report = dataclasses.replace(REPORT, config=LoraDAConfig(init_scale=scale), step_length=length)
    card = word_card("m", report)
    assert ("B is zero" in card) == zero
    assert ("B is not zero" in card) == (not zero)
