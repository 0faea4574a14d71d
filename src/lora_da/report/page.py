"""An initialisation's report as one HTML file that needs no other, and as what a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lora_da.report._page_style import PAGE_STYLE, PICTURE_STYLE
from lora_da.report.findings import judge_data, list_findings
from lora_da.report.heat_map import draw_heat_map
from lora_da.report.layers import LayerReport, group_by_kind, round_gain, tabulate_layers
from lora_da.report.ranks import suggest_ranks, tabulate_needed_ranks
from lora_da.report.spectra import draw_spectra
from lora_da.report.svg import Markup, join, scrolling, table, tag

if TYPE_CHECKING:
    from lora_da.report.initialization import InitializationReport

GENERATOR = "lora-da inspect"
"""What a page says it was made by."""

BUDGET = 8
"""The rank of which ranks are suggested with as many parameters."""


def render_page(report: InitializationReport, title: str, budget: int = BUDGET) -> str:
    """Render a whole page: verdicts, pictures with what to do about them, and every figure as a table.

    Args:
        report: The report.
        title: Of the page, such as where the report lies.
        budget: Ranks are suggested with as many parameters as this rank in every layer has.
    """
    sections = [
        _section("verdict", "Verdict", _verdict(report)),
        _section("spectra", "Directions and noise", *_spectra(report)),
        _section("kept", "What the rank keeps", *_kept(report)),
        *([_section("gain", "Expected gain", *_gain(report))] if report.in_nats else []),
        _section("tokens", "Tokens per input dimension", *_tokens(report)),
        _section("ranks", "Ranks", *_ranks(report, budget)),
        _section("stability", "Stability", *_stability(report)),
        _section("layers", "All layers", _layers(report, budget)),
        *([_section("notes", "Notes", *map(_paragraph, report.notices))] if report.notices else []),
    ]
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta name="generator" content="{GENERATOR}">'),
        tag("title", title),
        tag("style", Markup(PAGE_STYLE + PICTURE_STYLE)),
    )
    about = f"{len(report.layers)} layers, {report.examples:,} examples; nothing here needs a network or a script."
    body = tag(
        "body",
        tag("a", "Skip to the verdict", href="#verdict", class_="skip"),
        tag("header", tag("h1", title), _paragraph(about)),
        tag("nav", *(tag("a", name, href=f"#{key}") for key, name, _ in sections), aria_label="Sections"),
        tag("main", *(part for *_, part in sections)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def render_snippet(report: InitializationReport) -> str:
    """Render what a notebook shows: the verdicts, the spectra, and the figures of each kind of layer."""
    inner = [
        tag("style", Markup(PICTURE_STYLE)),
        _verdict(report),
        tag("div", *draw_spectra(report.layers), class_="panels"),
        tag("details", tag("summary", "Figures of each kind of layer"), _kinds(report)),
    ]
    return tag("div", *inner, class_="lora-da")


def _found(report: InitializationReport, topic: str) -> str:
    """What was found about one topic, as a sentence of its own."""
    text = next(finding.text for finding in list_findings(report) if finding.topic == topic)
    return text[0].upper() + text[1:]


def _section(key: str, heading: str, *parts: Markup) -> tuple[str, str, Markup]:
    return key, heading, tag("section", tag("h2", heading), *parts, id=key)


def _paragraph(text: str) -> Markup:
    return tag("p", text)


def _verdict(report: InitializationReport) -> Markup:
    rows = (join((tag("dt", one.title, class_=one.level), tag("dd", one.text))) for one in list_findings(report))
    return tag("dl", *rows)


def _kinds(report: InitializationReport) -> Markup:
    header, *rows = tabulate_layers(report.layers, gains=report.in_nats)
    return table("Layers of each kind: medians; real directions are sums, gains shares of all", header, rows)


def _spectra(report: InitializationReport) -> Iterator[Markup]:
    layers = report.layers
    if all(layer.noise_ratios is not None for layer in layers.values()):
        open_ended = sum(layer.real_directions == layer.rank for layer in layers.values())
        yield _paragraph(
            "Each direction's size over the largest that noise alone would have, by kind of layer: the median of its "
            "layers, and the middle half of them as a band. What lies below the line can't be told from noise."
        )
        if judge_data(layers, report.examples).level == "good":
            todo = f"In {open_ended} of {len(layers)} layers all directions are real: try a larger rank there."
        else:
            todo = "Use more or longer examples, or leave out the kinds of layers whose curves stay below the line."
        yield tag("p", todo, class_="todo")
    else:
        yield _paragraph(
            "Negative eigenvalues of Ω relative to the first, by kind of layer: each is a direction that gains."
        )
    yield tag("div", *draw_spectra(layers), class_="panels")
    yield _kinds(report)


def _kept(report: InitializationReport) -> Iterator[Markup]:
    kept = {name: layer.captured_energy[-1] for name, layer in report.layers.items()}
    groups = group_by_kind(report.layers)
    least = min(groups, key=lambda kind: max(layer.captured_energy[-1] for layer in groups[kind]))
    yield _paragraph(_found(report, "rank"))
    yield tag("p", f"A larger rank would add most in {least}; the table says which rank keeps how much.", class_="todo")
    yield _map(kept, "Energy kept", ".0%")
    header, *rows = tabulate_needed_ranks(report.layers)
    yield table("Rank that keeps a share of the energy: median over the layers of a kind", header, rows)


def _gain(report: InitializationReport) -> Iterator[Markup]:
    unit = report.label_tokens or 1.0
    per = "example" if report.label_tokens is None else "token"
    yield _paragraph(_found(report, "gain"))
    yield tag(
        "p",
        "Where memory is short, target_modules may leave out what is pale here; each layer is seen by itself, so that "
        "several pale ones together can matter. A negative gain costs more than it brings.",
        class_="todo",
    )
    gains = {name: -layer.expected_change / unit for name, layer in report.layers.items()}
    yield _map(gains, f"Expected gain in nats per {per}", ".3g")


def _tokens(report: InitializationReport) -> Iterator[Markup]:
    tokens = {name: layer.tokens_per_input_dimension for name, layer in report.layers.items()}
    few = sum(value < 1 for value in tokens.values())
    todo = "No layer saw fewer tokens than it has dimensions: nothing to do."
    if few:
        todo = f"{few} layers saw fewer tokens than dimensions (crossed out): use more or longer examples."
    yield tag("p", todo, class_="todo")
    yield _map(tokens, "Tokens per input dimension", ".3g", crossed_below=1)


def _stability(report: InitializationReport) -> Iterator[Markup]:
    known = {name: one.half_overlap for name, one in report.layers.items() if one.half_overlap is not None}
    yield tag("p", _found(report, "stability"), class_="todo")
    if known:
        yield _map(known, "Share of the subspace that both halves find", ".0%")


def _ranks(report: InitializationReport, budget: int) -> Iterator[Markup]:
    chosen = {name: layer.rank for name, layer in report.layers.items()}
    if len(set(chosen.values())) > 1:
        yield _map(chosen, "Rank", "g")
    else:
        yield _paragraph(f"Every layer has rank {next(iter(chosen.values()))}.")
    suggested, text = suggest(report, budget)
    yield tag("p", text, class_="todo")
    if suggested is not None:
        yield _map(suggested, "Suggested rank", "g")


def suggest(report: InitializationReport, budget: int) -> tuple[dict[str, int] | None, str]:
    """Return the ranks that the report can suggest, if any, and a sentence that says how far to trust them."""
    if not report.in_nats:
        return None, "This metric can't compare layers: lora_da.choose_ranks(statistics) suggests ranks."
    if any(layer.shape is None for layer in report.layers.values()):
        return None, "The report is of an earlier version and holds too little to suggest ranks: initialise anew."
    least = min(len(layer.eigenvalues) for layer in report.layers.values())
    budget = min(budget, max(least - 1, 1))  # with more, all layers would have what the report holds
    same = f"with as many parameters as rank {budget} everywhere"
    try:
        ranks = suggest_ranks(report.layers, budget)
    except ValueError:
        ranks = suggest_ranks(report.layers, budget, largest=least)
        return ranks, (
            f"The best ranks up to {least} {same}: the report holds no more directions. For a free choice use "
            f"lora-da init --rank auto --rank-budget {budget}, or inspect saved statistics."
        )
    return ranks, f"The ranks that gain most {same}: lora-da init --rank auto --rank-budget {budget} gives them."


def _map(values: Mapping[str, float], what: str, form: str, *, crossed_below: float | None = None) -> Markup:
    return scrolling(what, draw_heat_map(values, what, form, crossed_below=crossed_below))


def _layers(report: InitializationReport, budget: int) -> Markup:
    unit = (report.label_tokens or 1.0) if report.in_nats else None
    suggested, _ = suggest(report, budget)
    header = ["layer", "rank", "tokens/d_in", "real", "kept", "gain", "suggested rank"]

    def row(name: str, layer: LayerReport) -> list[str]:
        real = layer.negative_eigenvalues if layer.real_directions is None else layer.real_directions
        return [
            name,
            str(layer.rank),
            f"{layer.tokens_per_input_dimension:.3g}",
            f"{real}/{layer.rank}",
            f"{layer.captured_energy[-1]:.1%}",
            "–" if unit is None else round_gain(-layer.expected_change / unit),
            "–" if suggested is None else str(suggested[name]),
        ]

    rows = [row(name, layer) for name, layer in report.layers.items()]
    whole = table("The figures behind the pictures, layer by layer", header, rows)
    return tag("details", tag("summary", f"{len(rows)} layers"), whole)
