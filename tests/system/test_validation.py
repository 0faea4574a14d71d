from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from lora_da.system.validation import check_fields, setting


@dataclass
class Settings:
    colour: Literal["red", "green"] = "red"
    size: int = 1


@dataclass
class Single:
    only: Literal["one"] = "one"


def test_listed_values_and_fields_without_choices_pass() -> None:
    check_fields(Settings("green", size=-3))


@pytest.mark.parametrize("value", ["blue", "Red", "", None, 1, ["red"]])
def test_other_values_are_named_with_the_class_and_the_choices(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Settings\.colour must be 'red' or 'green', not ") as caught:
        check_fields(Settings(value))  # type: ignore[arg-type]
    assert str(caught.value).endswith(repr(value))


@dataclass
class Ranges:
    share: float = setting(0.5, minimum=0)
    width: int | None = setting(None, minimum=2)
    scale: float = setting(1.0, above=0)


def test_numbers_within_their_ranges_pass_and_so_does_a_default_of_none() -> None:
    check_fields(Ranges())
    check_fields(Ranges(0, 2, 1e-9))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": -1e-9}, r"Ranges\.share must be a number of at least 0, not -1e-09"),
        ({"share": math.nan}, r"Ranges\.share must be a number of at least 0, not nan"),
        ({"share": None}, r"Ranges\.share must be a number of at least 0, not None"),
        ({"width": 1}, r"Ranges\.width must be a number of at least 2, not 1"),
        ({"scale": 0.0}, r"Ranges\.scale must be a number above 0, not 0\.0"),
        ({"scale": math.inf}, r"Ranges\.scale must be a number above 0, not inf"),
        ({"scale": "1"}, r"Ranges\.scale must be a number above 0, not '1'"),
    ],
)
def test_numbers_outside_are_named_with_the_class_and_the_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_fields(Ranges(**values))


def test_a_single_choice_reads_well() -> None:
    with pytest.raises(ValueError, match=r"^Single\.only must be 'one', not 'two'$"):
        check_fields(Single("two"))  # type: ignore[arg-type]
