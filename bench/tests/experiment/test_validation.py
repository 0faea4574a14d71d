"""Sections from plain data, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import field_validator

from lora_da_bench.experiment.validation import Section, nearest_name, parse_text, section_of, validate_section


class Inner(Section):
    rates: tuple[float, ...] = (1.0,)
    steps: int = 3

    @field_validator("steps")
    @classmethod
    def _even(cls, steps: int) -> int:
        if steps % 2 == 0:
            raise ValueError("it must be odd")
        return steps


class Outer(Section):
    name: str
    inner: Inner = Inner()
    other: Inner | None = None


def test_lists_stand_for_tuples() -> None:
    found = validate_section(Outer, {"name": "a", "other": {"rates": [0.5, 2]}})
    assert found == Outer(name="a", other=Inner(rates=(0.5, 2.0)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"name": "a", "inner": {"step": 3}}, "here.inner.step is unknown; did you mean steps?"),
        ({"name": "a", "other": {"xyz": 3}}, "here.other.xyz is unknown; there are rates, steps"),
        ({}, "here.name is missing"),
        ({"name": 3}, "here.name should be a valid string, not 3"),
        ({"name": "a", "inner": {"steps": 4}}, "here.inner.steps: it must be odd"),
        ({"name": "a", "inner": {"steps": "3"}}, 'here.inner.steps should be a valid integer, not "3"'),
        ([], "here must be a table of names and values, not []"),
    ],
)
def test_the_key_is_named(content: Any, told: str) -> None:
    with pytest.raises(ValueError, match="here") as raised:
        validate_section(Outer, content, "here")
    assert str(raised.value) == told


def test_a_section_alone_or_beside_none() -> None:
    found = {name: section_of(field.annotation) for name, field in Outer.model_fields.items()}
    assert found == {"name": None, "inner": Inner, "other": Inner}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (tuple[float, ...], "1e-3, 2", [1e-3, 2.0]),
        (tuple[int, ...], "4", [4]),
        (int | None, "4", 4),
        (str, "4", "4"),
        (Literal["float", "int"], "int", "int"),
    ],
)
def test_values_of_the_command_line(annotation: Any, text: str, value: Any) -> None:
    found = parse_text(annotation, text)
    assert found == value
    assert type(found) is type(value)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_text(int, "four")


def test_the_nearest_name() -> None:
    assert nearest_name("metods", ["methods", "ranks"]) == "did you mean methods?"
    assert nearest_name("xyz", ["methods", "ranks"]) == "there are methods, ranks"
