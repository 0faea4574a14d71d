"""A few rounds of the attacks on statistics, numbers, commands and jobs; ``python -m attacks.NAME`` makes more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attacks import mutated_statistics, numbers_at_edges, stale_checkpoints
from attacks.rounds import Attack

CHANGES = len(stale_checkpoints.CHANGES)


@pytest.mark.parametrize(
    ("attack", "rounds"),
    [
        pytest.param(stale_checkpoints.attack, 4, id="stale checkpoints"),
        pytest.param(mutated_statistics.attack, 40, id="mutated statistics"),
        pytest.param(numbers_at_edges.attack, 40, id="numbers"),
        pytest.param(
            stale_checkpoints.attack,
            len(stale_checkpoints.CHANGES),
            id="stale checkpoints, more",
            marks=pytest.mark.slow,
        ),
        pytest.param(mutated_statistics.attack, 400, id="mutated statistics, more", marks=pytest.mark.slow),
        pytest.param(numbers_at_edges.attack, 300, id="numbers, more", marks=pytest.mark.slow),
    ],
)
def test_attack(attack: Attack, rounds: int) -> None:
    assert [fault for number in range(rounds) for fault in attack(number)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "rounds"),
    [
        pytest.param("killed_commands", 5, id="commands"),
        pytest.param("disagreeing_jobs", 18, id="jobs"),
    ],
)
def test_program(attack: str, rounds: int) -> None:
    """As a program: forks need a process that has computed no gradients."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    }
    command = [sys.executable, "-m", f"attacks.{attack}", "--rounds", str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
