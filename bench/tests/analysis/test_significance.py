from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import beta, norm, t

from lora_da_bench.analysis.significance import LEVEL, Array, compare_methods, estimate_difference, estimate_mean

SEEDS, ITEMS, FAMILIES = 3, 100, 600


def simulated(
    generator: np.random.Generator, seed_effect: float, residual: float = 1.0, gain: float = 0.0
) -> dict[str, Array]:
    """Values of four methods: effects of seeds and items that all share, effects of each method's own, and noise.

    The methods are identical up to ``gain``, which is taken off the loss of method "a".
    """
    shared = generator.normal(size=(SEEDS, 1)) + 2 * generator.normal(size=(1, ITEMS))
    return {
        name: shared
        + seed_effect * generator.normal(size=(SEEDS, 1))
        + generator.normal(size=(1, ITEMS))
        + residual * generator.normal(size=(SEEDS, ITEMS))
        - gain * (name == "a")
        for name in "abcd"
    }


def lower_bound(hits: int, tries: int) -> float:
    """Of Clopper and Pearson's 95 % interval of a rate."""
    return float(beta.ppf(0.025, hits, tries - hits + 1)) if hits else 0.0


def any_difference(methods: Mapping[str, Array]) -> bool:
    """Whether some pair would be told apart, by the intervals alone, which are quick."""
    pairs = list(itertools.combinations(methods.values(), 2))
    found = (estimate_mean(first - second, level=LEVEL / len(pairs)) for first, second in pairs)
    return any(estimate.low > 0 or estimate.high < 0 for estimate in found)


def test_a_case_by_hand() -> None:
    values = np.array([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0]])
    found = estimate_difference(values)
    # Seed means 3 and 5: variance 2, over 2 seeds. Item means 2, 4 and 6: variance 4, over 3 items.
    half = math.sqrt(t.isf(0.025, 1) ** 2 * 1 + t.isf(0.025, 2) ** 2 * 4 / 3)
    assert found.mean == 4
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))
    assert found.standard_error == pytest.approx(math.sqrt(1 + 4 / 3))
    assert found.seed_share == pytest.approx(1 / (1 + 4 / 3))


def test_the_variance_is_that_of_resampling_seeds_and_items() -> None:
    generator = np.random.default_rng(0)
    values = simulated(generator, 0.3)["b"]
    draws = 20_000
    seed_means, item_means = values.mean(axis=1), values.mean(axis=0)
    by_seed = seed_means[generator.integers(SEEDS, size=(draws, SEEDS - 1))].mean(axis=1)
    by_item = item_means[generator.integers(ITEMS, size=(draws, ITEMS - 1))].mean(axis=1)
    resampled = by_seed.var() + by_item.var()
    # The relative error of a variance of n normal draws is √(2/n); four of them.
    assert estimate_mean(values).standard_error ** 2 == pytest.approx(resampled, rel=4 * math.sqrt(2 / draws))


def test_the_ratio_is_that_of_resampling_sums() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(20, 200, size=ITEMS).astype(float)
    values = labels * (1 + 0.3 * simulated(generator, 0.3)["b"])
    found = estimate_mean(values, labels)
    assert found.mean == pytest.approx(values.sum() / (SEEDS * labels.sum()))
    draws = 20_000
    picked = generator.integers(ITEMS, size=(draws, ITEMS - 1))
    by_item = values.mean(axis=0)[picked].sum(axis=1) / labels[picked].sum(axis=1)
    per_seed = values.sum(axis=1) / labels.sum()
    by_seed = per_seed[generator.integers(SEEDS, size=(draws, SEEDS - 1))].mean(axis=1)
    # A linearised ratio is off by a relative 1/items or so.
    assert found.standard_error**2 == pytest.approx(by_item.var() + by_seed.var(), rel=0.06)


def test_equal_weights_change_nothing_but_the_unit() -> None:
    values = simulated(np.random.default_rng(2), 0.3)["b"]
    plain, weighted = estimate_mean(values), estimate_mean(4 * values, np.full(ITEMS, 4.0))
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))


@pytest.mark.parametrize("values", [np.ones((1, 5)) + np.arange(5), np.arange(3.0)[:, None], np.full((3, 9), 0.1)])
def test_what_cannot_be_estimated_has_no_interval(values: Array) -> None:
    found = estimate_difference(values)
    assert not found.estimable
    assert not found.excludes_zero
    assert (found.low, found.high, found.detectable) == (-math.inf, math.inf, math.inf)
    assert math.isnan(found.p_value)
    assert math.isnan(found.standard_error)
    assert found.mean == pytest.approx(values.mean())


@pytest.mark.parametrize("comparisons", [1, 6])
def test_the_p_value_is_the_level_at_which_the_interval_touches_zero(comparisons: int) -> None:
    values = simulated(np.random.default_rng(3), 0.01)["b"] + 6
    p_value = estimate_difference(values, comparisons=comparisons).p_value
    touching = estimate_difference(values, level=p_value, comparisons=comparisons)
    assert touching.low == pytest.approx(0, abs=1e-9)


def test_many_items_and_seeds_give_the_normal_interval() -> None:
    values = np.random.default_rng(4).normal(size=(400, 400))
    found = estimate_difference(values)
    assert found.high - found.mean == pytest.approx(norm.isf(0.025) * found.standard_error, rel=0.01)
    assert found.detectable == pytest.approx((norm.isf(0.025) + norm.isf(0.2)) * found.standard_error, rel=0.02)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(5)
    # Independent seed and item effects of known size: A and B have the same expectation.
    effects = [(generator.normal(size=(SEEDS, 1)), generator.normal(size=(1, ITEMS))) for _ in range(600)]
    typical = effects[0][0] * 0, effects[0][1] * 0
    typical[0][:, 0] = np.array([-1, 0, 1])  # variance 1
    typical[1][0] = np.tile([-1, 1], ITEMS // 2) * math.sqrt((ITEMS - 1) / ITEMS)
    spread = math.sqrt(SEEDS / ITEMS)
    detectable = estimate_difference(typical[0] * spread + typical[1]).detectable
    hits = sum(estimate_difference(seed * spread + item + detectable).low > 0 for seed, item in effects)
    assert hits / len(effects) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("seed_effect", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("residual", [0.1, 1.0])
def test_identical_methods_are_not_told_apart(seed_effect: float, residual: float) -> None:
    generator = np.random.default_rng(6)
    hits = sum(any_difference(simulated(generator, seed_effect, residual)) for _ in range(FAMILIES))
    assert lower_bound(hits, FAMILIES) <= 0.05


@pytest.mark.parametrize("seed_effect", [0.0, 0.3, 3.0])
def test_identical_answers_are_not_told_apart(seed_effect: float) -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(FAMILIES):
        correct = {name: (values > 1).astype(float) for name, values in simulated(generator, seed_effect).items()}
        hits += any_difference(correct)
    assert lower_bound(hits, FAMILIES) <= 0.05


def test_a_truly_better_method_wins() -> None:
    generator = np.random.default_rng(9)
    families = [compare_methods(simulated(generator, 0.05, gain=2.0), higher_is_better=False) for _ in range(100)]
    winners = [comparison.winner() for comparison in families]
    assert set(winners) <= {"a", None}
    assert winners.count("a") >= 80


def test_the_direction_of_better() -> None:
    values = simulated(np.random.default_rng(10), 0.01, gain=3.0)
    loss, gain = compare_methods(values, higher_is_better=False), compare_methods(values, higher_is_better=True)
    assert (loss.winner(), gain.winner()) == ("a", None)
    assert loss.better("a", "b")
    assert gain.better("b", "a")
    first, second = loss.differences["a", "b"], loss.differences["b", "a"]
    assert (first.low, first.high) == (-second.high, -second.low)
    assert (first.p_value, first.detectable) == (second.p_value, second.detectable)


def test_intervals_of_a_family_are_bonferronis() -> None:
    methods = simulated(np.random.default_rng(11), 0.3)
    comparison = compare_methods(methods, higher_is_better=False)
    for (first, second), difference in comparison.differences.items():
        alone = estimate_mean(methods[first] - methods[second], level=LEVEL / 6)
        assert (difference.low, difference.high) == pytest.approx((alone.low, alone.high))
    assert any(d.excludes_zero for d in comparison.differences.values()) == any_difference(methods)


def test_one_method_wins_nothing() -> None:
    assert compare_methods({"a": np.eye(3)}, higher_is_better=True).winner() is None
