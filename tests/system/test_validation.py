from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from lora_da.system.validation import check_choices


@dataclass
class Settings:
    colour: Literal["red", "green"] = "red"
    size: int = 1


@dataclass
class Single:
    only: Literal["one"] = "one"


def test_listed_values_and_fields_without_choices_pass() -> None:
    check_choices(Settings("green", size=-3))


@pytest.mark.parametrize("value", ["blue", "Red", "", None, 1, ["red"]])
def test_other_values_are_named_with_the_class_and_the_choices(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Settings\.colour must be 'red' or 'green', not ") as caught:
        check_choices(Settings(value))  # type: ignore[arg-type]
    assert str(caught.value).endswith(repr(value))


def test_a_single_choice_reads_well() -> None:
    with pytest.raises(ValueError, match=r"^Single\.only must be 'one', not 'two'$"):
        check_choices(Single("two"))  # type: ignore[arg-type]
