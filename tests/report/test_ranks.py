"""Ranks against the best of all choices."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_da.report.layers import LayerReport
from lora_da.report.ranks import ranks_within, ranks_worth_learning, suggest_ranks, tabulate_needed_ranks
from report.test_layers import layer

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


def of(*changes: float) -> LayerReport:
    """A layer of 8 by 8 with rank 2."""
    return dataclasses.replace(layer(), eigenvalues=changes, shape=(8, 8))


def test_suggested_ranks_are_those_of_all_directions_or_none() -> None:
    clear = {"a": of(-9.0, -8.0, -0.2), "b": of(-5.0, -0.1, 0.1)}
    assert suggest_ranks({"a": of(-9.0, -8.0, 0.2), "b": of(-5.0, 0.1, 0.2)}) == {"a": 2, "b": 1}
    assert suggest_ranks(clear, 1) == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match="layer a may deserve more than the 3 directions"):
        suggest_ranks(clear, 2)
    assert suggest_ranks(clear, 2, largest=3) == {"a": 3, "b": 1}
    with pytest.raises(ValueError, match="up to 3"):
        suggest_ranks(clear, 9, largest=4)


@pytest.mark.parametrize("given", [{"budget": 0}, {"largest": 0}])
def test_ranks_below_one_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        suggest_ranks({"a": of(-1.0)}, **given)


def test_reports_without_shapes_suggest_nothing() -> None:
    with pytest.raises(ValueError, match="earlier version"):
        suggest_ranks({"a": layer()}, 1)


def test_ranks_that_keep_a_share() -> None:
    layers = {"h.0.q": dataclasses.replace(layer(), rank=4, captured_energy=(0.2, 0.4, 0.6, 0.8))}
    assert tabulate_needed_ranks(layers) == [("layers", "25%", "50%", "75%", "90%"), ("q", "2", "3", "4", "> 4")]
