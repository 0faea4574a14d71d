"""The table in docs/laboratory.md has every method."""

from __future__ import annotations

from pathlib import Path

from lora_da_bench.laboratory.library_start import METHODS

TEXT = (Path(__file__).parents[3] / "docs" / "laboratory.md").read_text(encoding="utf-8")


def test_all_methods_are_documented() -> None:
    rows = "".join(f"| `{name}` | {what} |\n" for name, what in METHODS.items())
    assert f"| method | the span of A |\n|---|---|\n{rows}\n" in TEXT
