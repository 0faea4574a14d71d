"""The catalogue of model families that ``make families`` checks."""

from __future__ import annotations

from families.catalogue import FAMILIES
from families.page import tenth_of_them


def test_there_are_a_hundred_families_and_each_has_one_name() -> None:
    keys = [family.key for family in FAMILIES]
    assert len(set(keys)) == len(keys)
    assert len({family.name for family in FAMILIES}) >= 100


def test_a_tenth_of_them_is_chosen() -> None:
    places = tenth_of_them()
    assert places == sorted(set(places))
    assert len(FAMILIES) / 20 < len(places) < len(FAMILIES) / 5
