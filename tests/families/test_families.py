"""The catalogue of model families that ``make families`` checks."""

from __future__ import annotations

from families.catalogue import FAMILIES


def test_there_are_a_hundred_families_and_each_has_one_name() -> None:
    keys = [family.key for family in FAMILIES]
    assert len(set(keys)) == len(keys)
    assert len({family.name for family in FAMILIES}) >= 100
