"""Fields of dataclasses as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from lora_da.cli.options import with_fields
from lora_da.system.validation import required, setting


@dataclass(frozen=True)
class Walk:
    panel: ClassVar[str] = "Route"

    start: str = setting(required, "Where from.", argument=True)
    target: str = setting(required, "Where to.")
    steps: int = setting(3, "How far.", minimum=1)
    fast: bool = setting(False, "Whether to hurry.")
    careful: bool = setting(True, "Whether to look.")


app = typer.Typer()


@app.command()
@with_fields
def walk(*, route: Walk, times: Annotated[int, typer.Option(help="How often.")] = 2) -> None:
    """Go."""
    print(repr(route), times)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([], Walk("a", "b")),
        (["--steps", "5", "--fast", "--no-careful"], Walk("a", "b", 5, True, False)),
    ],
)
def test_fields_are_options(given: list[str], made: Walk) -> None:
    result = CliRunner().invoke(app, ["a", "--target", "b", "--times", "4", *given])
    assert result.output == f"{made!r} 4\n"


@pytest.mark.parametrize("given", [[], ["--target", "b"], ["a"], ["a", "--target", "b", "--steps", "0"]])
def test_what_is_missing_or_too_small_is_refused(given: list[str]) -> None:
    assert CliRunner().invoke(app, given).exit_code == 2


def test_help_is_the_field_s_own() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for said in (
        "Where from.",
        "Where to.",
        "How far.",
        "default: 3",
        "--no-careful",
        "How often.",
        "Go.",
        "─ Route ─",
    ):
        assert said in text
    assert "--no-fast" not in text
