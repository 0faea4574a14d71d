"""Ranks against the best of all choices."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_da.report.ranks import ranks_within, ranks_worth_learning

gains = st.lists(st.floats(-5, 0.5), min_size=1, max_size=4).map(sorted)


@given(st.lists(gains, min_size=1, max_size=4), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_no_other_choice_of_as_many_parameters_gains_more(layers: list[list[float]], spare: int) -> None:
    changes = {str(number): values for number, values in enumerate(layers)}
    budget = len(layers) + spare
    found = ranks_within(changes, dict.fromkeys(changes, 1), budget)

    def total(ranks: tuple[int, ...]) -> float:
        return sum(sum(values[:rank]) for rank, values in zip(ranks, layers, strict=True))

    choices = itertools.product(*(range(1, len(values) + 1) for values in layers))
    used = min(budget, sum(map(len, layers)))
    best = min(total(ranks) for ranks in choices if sum(ranks) == used)
    assert sum(found.values()) == used
    assert abs(total(tuple(found.values())) - best) < 1e-5


def test_gains_count_by_parameter() -> None:
    changes = {"wide": [-5.0, -3.0], "narrow": [-5.0, -2.0]}
    assert ranks_within(changes, {"wide": 20, "narrow": 10}, 40) == {"wide": 1, "narrow": 2}


def test_a_direction_that_costs_more_than_it_gains_is_left_out() -> None:
    changes = {"one": [-2.0, -0.5, 0.1], "none": [0.1, 0.2]}
    assert ranks_worth_learning(changes) == {"one": 2, "none": 1}
