from __future__ import annotations

from lora_da.report.svg import Markup, join, table, tag

EVIL = "</text><script>alert(1)</script>\"'&"


def test_whatever_is_no_markup_is_escaped() -> None:
    for made in (tag("text", EVIL, aria_label=EVIL), join([EVIL]), table(EVIL, [EVIL], [(EVIL, EVIL)])):
        assert "<script" not in made
        assert made.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 1
    assert (
        tag("g", tag("b", "<"), Markup("<i/>"), class_="x", y=1.0, none=None)
        == '<g class="x" y="1"><b>&lt;</b><i/></g>'
    )
