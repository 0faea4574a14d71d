"""Runs aligned by seed and item."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lora_da_bench.analysis.pairs import is_usable, pair_runs
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord
from simulated_records import record


def final(method: str, seed: int, *losses: float, labels: tuple[int, ...] = (2, 3), right: bool = True) -> RunRecord:
    items = Items(list(losses), list(labels), [right] * len(losses))
    return record(Run("final", method, 8, 1e-3, seed, 20, 20), [Point(20, 1.0, 1.0)], items)


def test_seeds_that_all_have_stand_in_order() -> None:
    first = [final("lora", 7, 1.0, 2.0), final("lora", 5, 3.0, 4.0), final("lora", 6, 5.0, 6.0)]
    second = [final("pissa", 5, 7.0, 8.0, right=False), final("pissa", 7, 9.0, 10.0)]
    pairs = pair_runs({"lora": first, "pissa": second})
    assert pairs is not None
    assert pairs.seeds == (5, 7)
    assert pairs.labels.tolist() == [2, 3]
    assert pairs.losses["lora"].tolist() == [[3, 4], [1, 2]]
    assert pairs.losses["pissa"].tolist() == [[7, 8], [9, 10]]
    assert pairs.correct["pissa"].tolist() == [[0, 0], [1, 1]]


def test_answers_of_some_are_no_answers() -> None:
    silent = final("pissa", 5, 7.0, 8.0)
    silent = replace(silent, items=replace(silent.items, correct=[]))
    pairs = pair_runs({"lora": [final("lora", 5, 1.0, 2.0)], "pissa": [silent]})
    assert pairs is not None
    assert pairs.correct == {}


def test_what_has_nothing_in_common_is_not_paired() -> None:
    lora = [final("lora", 5, 1.0, 2.0)]
    assert pair_runs({"lora": lora, "pissa": [final("pissa", 6, 1.0, 2.0)]}) is None
    assert pair_runs({"lora": lora, "pissa": [final("pissa", 5, 1.0, 2.0, labels=(2, 4))]}) is None
    assert pair_runs({}) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_run_is_usable_with_a_finite_loss_of_every_item(loss: float) -> None:
    good = final("lora", 5, 1.0, 2.0)
    assert is_usable(good)
    assert not is_usable(final("lora", 5, 1.0, loss))
    assert not is_usable(replace(good, status="diverged"))
    assert not is_usable(replace(good, items=Items()))
