from __future__ import annotations

from lora_da_bench.report.page import Strong, render_html, write_bullets, write_heading, write_image, write_table


def test_both_forms_have_the_same_content() -> None:
    parts = [
        write_heading(1, "a_b"),
        "one & two",
        write_bullets(["x*y", Strong("z")]),
        write_table(("k", "v"), [("[a](b)", Strong("< 1"))]),
        write_image("p.svg", "a plot"),
    ]
    markdown = "\n\n".join(parts)
    assert markdown == (
        "# a\\_b\n\none & two\n\n- x\\*y\n- **z**\n\n| k | v |\n| --- | ---: |\n| [a\\](b) | **< 1** |"
        "\n\n![a plot](p.svg)"
    )
    html = render_html(markdown, {"p.svg": b"<svg/>"})
    for part in (
        '<h1 id="section-0">a_b</h1>',
        "one &amp; two",
        "<li>x*y</li>",
        "<strong>z</strong>",
        "<strong>&lt; 1</strong>",
    ):
        assert part in html
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in html


def test_verdicts_have_colours_and_words_and_sections_anchors() -> None:
    table = write_table(
        ("method", "against LoRA"), [("better", "better"), ("b", "worse"), ("c", "not shown")], text=True
    )
    html = render_html("\n\n".join((write_heading(1, "<t>"), table, write_heading(2, "Rank 8"))), {})
    assert html.count('class="better"') == 2  # beside a method of that name
    assert html.count('class="worse"') == 1
    assert '<a href="#section-1">Rank 8</a>' in html
    assert '<h2 id="section-1">' in html
    assert "<title>&lt;t&gt;</title>" in html
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert 'tabindex="0" role="region" aria-label="Table 1"' in html
