"""A few rounds of each attack; ``python -m attacks.NAME --rounds N`` runs more."""

from __future__ import annotations

import pytest

from attacks import bombs, divergence, kills, locks, outputs, readers, records, soak
from attacks.rounds import Attack

_LARGE = {"_gzip", "_empty_lists", "_endless_template"}  # many seconds or gibibytes


@pytest.mark.parametrize(
    ("attack", "rounds"),
    [
        pytest.param(readers.attack, 90, id="readers"),
        pytest.param(records.attack, 80, id="records"),
        pytest.param(kills.attack, 24, id="kills"),
        pytest.param(locks.attack, 2, id="locks"),
        pytest.param(outputs.attack, 22, id="outputs"),
        pytest.param(divergence.attack, 1, id="divergence"),
        pytest.param(soak.attack, 1, id="soak", marks=pytest.mark.slow),
        pytest.param(readers.attack, 600, id="readers, more", marks=pytest.mark.slow),
        pytest.param(kills.attack, 72, id="kills, more", marks=pytest.mark.slow),
        pytest.param(divergence.attack, 3, id="divergence, more", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_attack(attack: Attack, rounds: int) -> None:
    assert [fault for number in range(rounds) for fault in attack(number)] == []


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=bomb.__name__, marks=[pytest.mark.slow] if bomb.__name__ in _LARGE else [])
        for number, bomb in enumerate(bombs.BOMBS)
    ],
)
def test_bomb(number: int) -> None:
    assert bombs.attack(number) == []
