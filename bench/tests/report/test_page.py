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
    for part in ("<h1>a_b</h1>", "one &amp; two", "<li>x*y</li>", "<strong>z</strong>", "<strong>&lt; 1</strong>"):
        assert part in html
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in html
