"""Every family of the catalogue, compared with plain autograd: a tenth of them quickly, another one at each commit."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from families.catalogue import FAMILIES
from families.check import ALL_ROWS, EXACT, REFUSED, check
from families.family import Family


def test_there_are_a_hundred_families_and_each_has_one_name() -> None:
    keys = [family.key for family in FAMILIES]
    assert len(set(keys)) == len(keys)
    assert len({family.name for family in FAMILIES}) >= 100


def tenth_of_the_families() -> list[Family]:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()  # none outside a checkout
    digests = (hashlib.sha256(f"{commit} {family.key}".encode()).digest() for family in FAMILIES)
    return [family for family, digest in zip(FAMILIES, digests, strict=True) if digest[0] % 10 == 0]


def assert_right(family: Family) -> None:
    """Every cell is exact, or refused with a reason; none is wrong, or ends in another library's error."""
    row = check(family)
    assert row.cells, "nothing was checked"
    wrong = {column: cell for column, cell in row.cells.items() if cell.word not in (*ACCEPTED, "–")}
    assert not wrong


ACCEPTED = (EXACT, ALL_ROWS, REFUSED)


@pytest.mark.parametrize("family", tenth_of_the_families(), ids=lambda family: family.key)
def test_a_tenth_of_the_families(family: Family) -> None:
    assert_right(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.key)
def test_all_families(family: Family) -> None:
    assert_right(family)
