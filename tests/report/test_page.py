"""The page, read as a browser does: by its elements."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest

from lora_da import InitializationReport, LoraDAConfig
from lora_da.report.page import render_page, render_snippet, suggest
from report.test_layers import layer
from report.test_ranks import of

EVIL = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of its tables' cells by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def report(**changes: object) -> InitializationReport:
    one = dataclasses.replace(
        layer(), eigenvalues=(-6.0, -2.0, 0.5), captured_energy=(0.5, 0.625), noise_ratios=(3.0, 2.0, 0.5), shape=(6, 4)
    )
    layers = {f"h.{depth}.{kind}": one for depth in range(3) for kind in ("q", "up")}
    layers[f"h.0.{EVIL}"] = dataclasses.replace(one, tokens_per_input_dimension=0.5)
    made = InitializationReport(layers, {}, 64, 100, 8.0, 6.0, {}, None, False, (EVIL,), LoraDAConfig(), 4.0, 0.25)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_the_tables_hold_the_figures_of_the_report() -> None:
    rows = Elements(render_page(report(), "title")).rows
    assert ["h.1.q", "2", "3", "2/2", "62.5%", "2", "2"] in rows
    assert [row[0] for row in rows if row[0].startswith("h.")] == list(report().layers)


def test_halves_are_a_map_of_the_layers_that_are_known() -> None:
    layers = report().layers
    halved = layers | {"h.1.q": dataclasses.replace(layers["h.1.q"], half_overlap=0.625)}
    maps = [svg["aria-label"] or "" for svg in Elements(render_page(report(layers=halved), "title")).all("svg")]
    assert any(one.startswith("Share of the subspace that both halves find") for one in maps)
    assert "62%" in render_page(report(layers=halved), "title")
    assert len(maps) == 1 + len(Elements(render_page(report(), "title")).all("svg"))


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = render_page(report(), EVIL)
    elements = Elements(page)
    assert not {"script", "link", "img", "iframe"} & {name for name, _ in elements.found}
    assert not [word for word in ("url(", "@import") if word in page]
    assert page.count("http") == page.count('xmlns="http://www.w3.org/2000/svg"')
    assert not Elements(render_snippet(report())).all("script")


def test_it_can_be_read_without_eyes_or_mouse() -> None:
    page = render_page(report(), "title")
    elements = Elements(page)
    assert elements.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements.all("meta")
    assert "prefers-color-scheme: dark" in page
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in elements.all("svg"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in elements.all("div") if box.get("role"))
    targets = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    assert {(link["href"] or "")[1:] for link in elements.all("a")} <= targets
    assert len(elements.all("h1")) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "The ranks that gain most with as many parameters as rank 2 everywhere"),
        ({"layers": {"a": of(-9.0, -8.0, -7.0), "b": of(-1.0, -0.5, -0.1)}}, "The best ranks up to 3 with as many"),
        ({"config": LoraDAConfig.paper()}, "can't compare layers"),
        ({"layers": {"a": layer()}}, "earlier version"),
    ],
)
def test_suggested_ranks_say_how_far_to_trust_them(changes: dict[str, object], words: str) -> None:
    changed = report(**changes)
    assert words in suggest(changed, 8)[1]
    assert words.replace("'", "&#x27;") in render_page(changed, "title")
