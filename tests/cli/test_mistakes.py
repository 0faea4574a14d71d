"""Usual mistakes are told in a few words that say what to do, before anything that takes seconds is imported."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mistakes import MISTAKES, Mistake, call_all, prepare


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("mistakes")
    prepare(folder)
    there = sorted(path.name for path in folder.iterdir())
    found = call_all(folder)
    assert sorted(path.name for path in folder.iterdir()) == there  # nothing is written
    return found


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[mistake.line for mistake in MISTAKES])
def test_a_mistake_is_told_before_torch_is_imported(told: list[dict[str, Any]], number: int) -> None:
    mistake: Mistake = MISTAKES[number]
    found = told[number]
    message = " ".join(re.sub(r"[│╭╮╰╯─]", " ", found["message"]).split())
    assert found["status"] not in (0, None)
    assert re.search(mistake.told, message), message
    assert len(message) < 400
    assert "Traceback" not in message
    assert found["imported"] == []


def test_there_are_thirty() -> None:
    assert len({mistake.line for mistake in MISTAKES}) >= 30
