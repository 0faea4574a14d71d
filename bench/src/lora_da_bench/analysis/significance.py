r"""Whether methods differ, judged from the same test items under the same few seeds.

Other seeds and other items would each give other numbers, so both count as drawn at random. With :math:`D_{si}` the
difference of two methods for seed s and item i, :math:`D_{si} = \mu + a_s + b_i + e_{si}`, the variance of the mean
has two estimated parts: A, the variance of the S seed means over S, and B, the variance of the I item means over I.
Each is what a bootstrap gives that draws S − 1 seeds, or I − 1 items, with replacement, at infinitely many draws. The
residual e is in both, so their sum errs on the safe side.

The interval is :math:`\bar D \pm \sqrt{t_{S-1}^2 A + t_{I-1}^2 B}` with quantiles t of Student's distribution
(Banerjee, Sankhyā 22, 1960). For normal effects it covers the truth at least as often as it promises, whatever the
ratio of the two variances and also with two seeds. The usual choices do not:

- A percentile bootstrap never looks beyond the smallest and the largest of three seeds, and three seeds lie on the same
  side of the truth one time in four.
- Satterthwaite's degrees of freedom trust an A that is small by chance. Where seeds move results more than items do,
  three seeds of four identical methods then show some difference three times as often as promised.

Items that weigh differently (loss per token) are a ratio of sums; it is linearised: with weights w the residual of
:math:`D_{si}` is :math:`(D_{si} - \bar D w_i) / \bar w`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

Array = NDArray[np.float64]

LEVEL = 0.05
_POWER = 0.8
_SMALLEST_P = 1e-15
_CONSTANT = 1e-9  # a standard error this small beside the values is rounding


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and items.

    With one seed, one item or values without any variation there is nothing to estimate the uncertainty from: the
    interval is infinite, and standard error and share are not numbers.

    Attributes:
        mean: Sum of the values over sum of the weights.
        low: Lower end of its interval.
        high: Upper end.
        standard_error: √(A + B).
        seed_share: A / (A + B): near 1 more seeds would help, near 0 more items.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    seed_share: float

    @property
    def estimable(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.high - self.low)


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean difference of two methods; intervals and p-values of a family hold simultaneously.

    Attributes:
        p_value: The level, corrected for the number of comparisons, at which the interval would just touch zero.
        detectable: The smallest true difference that would be found with 80 % power, were the variances as estimated.
    """

    p_value: float
    detectable: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is shown."""
        return self.low > 0 or self.high < 0

    def reversed(self) -> Difference:
        """The same of the two methods the other way round."""
        return dataclasses.replace(self, mean=-self.mean, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class Comparison:
    """Methods compared with one another.

    Attributes:
        differences: Of every ordered pair, the first minus the second.
        higher_is_better: As for accuracy; not so for a loss.
    """

    differences: Mapping[tuple[str, str], Difference]
    higher_is_better: bool

    def better(self, method: str, other: str) -> bool:
        """Whether one is shown to be better than another."""
        difference = self.differences[method, other]
        return difference.low > 0 if self.higher_is_better else difference.high < 0

    def winner(self) -> str | None:
        """The method that is shown to be better than every other; None if there is none."""
        methods = {method for pair in self.differences for method in pair}
        for method in methods:
            if all(self.better(method, other) for other in methods - {method}):
                return method
        return None


def estimate_mean(values: Array, weights: Array | None = None, level: float = LEVEL) -> Estimate:
    """Estimate the mean of one method's values with its own interval, for no other comparison.

    Args:
        values: (S, I), by seed and item.
        weights: (I,), such as the items' numbers of labels, over which the values are sums; 1 by default.
        level: 1 − the coverage.
    """
    mean, seeds, items = _parts(values, weights)
    if not seeds + items > 0:
        return Estimate(mean, -math.inf, math.inf, math.nan, math.nan)
    half = math.sqrt(_squared_width(level, seeds, items, values.shape))
    return Estimate(mean, mean - half, mean + half, math.sqrt(seeds + items), seeds / (seeds + items))


def estimate_difference(
    values: Array, weights: Array | None = None, level: float = LEVEL, comparisons: int = 1
) -> Difference:
    """Estimate the mean of paired differences by seed and item, (S, I); see :func:`estimate_mean`.

    At the level all comparisons together are wrong at most (Bonferroni).
    """
    estimate = estimate_mean(values, weights, level / comparisons)
    if not estimate.estimable:
        return Difference(**dataclasses.asdict(estimate), p_value=math.nan, detectable=math.inf)
    _, seeds, items = _parts(values, weights)

    def excess(log_level: float) -> float:
        return _squared_width(math.exp(log_level), seeds, items, values.shape) - estimate.mean**2

    smallest = math.log(_SMALLEST_P)
    p_value = _SMALLEST_P if excess(smallest) <= 0 else math.exp(brentq(excess, smallest, 0.0))
    detectable = estimate.standard_error * _detectable(level / comparisons, estimate.seed_share, values.shape)
    return Difference(
        **dataclasses.asdict(estimate), p_value=min(1.0, max(p_value, _SMALLEST_P) * comparisons), detectable=detectable
    )


def compare_methods(
    values: Mapping[str, Array], weights: Array | None = None, *, higher_is_better: bool, level: float = LEVEL
) -> Comparison:
    """Compare all pairs of methods, whose values (S, I) have the same seeds and items in the same order.

    The level, the probability of any false difference at most, holds for all of them together.
    """
    pairs = list(itertools.combinations(values, 2))
    differences: dict[tuple[str, str], Difference] = {}
    for method, other in pairs:
        found = estimate_difference(values[method] - values[other], weights, level, len(pairs))
        differences[method, other], differences[other, method] = found, found.reversed()
    return Comparison(differences, higher_is_better)


def _parts(values: Array, weights: Array | None) -> tuple[float, float, float]:
    """The mean, A and B; not numbers if one of them can't be estimated, zero if nothing varies."""
    seeds, items = values.shape
    weights = np.ones(items) if weights is None else weights
    mean = float(values.sum() / (seeds * weights.sum()))
    if min(seeds, items) < 2:
        return mean, math.nan, math.nan
    residual = (values - mean * weights) / weights.mean()
    seed_part = float(residual.mean(axis=1).var(ddof=1)) / seeds
    item_part = float(residual.mean(axis=0).var(ddof=1)) / items
    if math.sqrt(seed_part + item_part) <= _CONSTANT * float(np.abs(values).max() / weights.mean()):
        return mean, 0.0, 0.0
    return mean, seed_part, item_part


def _squared_width(level: float, seeds: float, items: float, shape: tuple[int, ...]) -> float:
    """Half the width of the interval, squared, from A and B."""
    quantiles = stdtrit([shape[0] - 1, shape[1] - 1], level / 2)
    return float(quantiles[0] ** 2 * seeds + quantiles[1] ** 2 * items)


def _detectable(level: float, seed_share: float, shape: tuple[int, ...]) -> float:
    """The difference found with 80 % power, in true standard errors, if A's true share is ``seed_share``."""
    # The two estimated variances at the midpoints of equally probable classes of their chi-squared distributions; that
    # of the items, with many degrees of freedom, hardly varies.
    seeds, items = (
        chdtri(n - 1, (np.arange(classes) + 0.5) / classes) / (n - 1)
        for n, classes in zip(shape, (64, 12), strict=True)
    )
    quantiles = stdtrit([shape[0] - 1, shape[1] - 1], level / 2) ** 2
    half = np.sqrt(np.add.outer(quantiles[0] * seed_share * seeds, quantiles[1] * (1 - seed_share) * items)).ravel()

    def excess(difference: float) -> float:
        return float(ndtr(difference - half).mean()) - _POWER

    return float(brentq(excess, 0.0, float(half.max()) + 6.0, xtol=1e-3))
