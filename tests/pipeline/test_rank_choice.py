"""Ranks from statistics: what counts, and what each argument does."""

from __future__ import annotations

import dataclasses

import pytest

from lora_da import LoraDAConfig, choose_ranks
from pipeline.test_solution import statistics

SHAPE = (5, 6)


def test_more_data_to_train_on_allow_more_directions() -> None:
    sums = statistics()
    sums = dataclasses.replace(sums, gradient_sums={name: 80 * value for name, value in sums.gradient_sums.items()})
    few, many = (choose_ranks(sums, LoraDAConfig(population_size=size), progress=False) for size in (1, 100_000))
    assert few.keys() == many.keys() == set(sums.layers)
    assert all(1 <= few[name] <= many[name] <= min(SHAPE) for name in few)
    assert sum(few.values()) < sum(many.values())


def test_a_budget_is_used_up_and_the_largest_rank_kept() -> None:
    ranks = choose_ranks(statistics(), budget=3, progress=False)
    assert sum(ranks.values()) == 3 * len(ranks)  # all layers have the same shape
    assert max(choose_ranks(statistics(), budget=3, largest=2, progress=False).values()) == 2


def test_layers_that_the_data_say_nothing_about_have_rank_one() -> None:
    sums = statistics()
    sums.gradient_sums["k"].zero_()
    assert choose_ranks(sums, budget=3, progress=False)["k"] == 1
    assert list(choose_ranks(sums, layers=["o", "unknown"], progress=False)) == ["o", "unknown"]


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"largest": 0}])
def test_senseless_arguments(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        choose_ranks(statistics(), **wrong)  # type: ignore[arg-type]
