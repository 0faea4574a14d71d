"""Tables on the terminal."""

from __future__ import annotations

import pytest

from lora_da.cli.show import show_table

NAMES = ["[red]x[/red]", "[/]", "a[b]", ":smile:", r"back\[slash", "[link=file:///etc]y[/link]", "*x*"]


@pytest.mark.parametrize("name", NAMES)
def test_what_looks_like_markup_is_shown_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table((name, "count"), [(name, name)], title=name)
    title, _, header, _, row = capsys.readouterr().out.rstrip().splitlines()
    assert title.strip() == name
    assert header.split() == [name, "count"]
    assert row.split() == [name, name]


def test_a_table_wider_than_the_terminal_stays_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_table(("layers", "count"), [("x" * 200, "1")])
    assert f"{'x' * 200}  " in capsys.readouterr().out
