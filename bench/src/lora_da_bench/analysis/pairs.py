"""Results by seed and item: the arrays that methods are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lora_da_bench.analysis.significance import Array
from lora_da_bench.experiment.record import RunRecord


@dataclass(frozen=True)
class Pairs:
    """Results of some methods on the same seeds and the same items; S seeds, I items.

    Attributes:
        seeds: S of them, those that all methods have.
        labels: (I,): the items' numbers of labels.
        losses: (S, I) by method: the items' losses, each a sum over its labels.
        correct: (S, I) by method: 1 where an answer was right; empty unless all methods answered.
    """

    seeds: tuple[int, ...]
    labels: Array
    losses: Mapping[str, Array]
    correct: Mapping[str, Array]


def pair_runs(runs: Mapping[str, Sequence[RunRecord]]) -> Pairs | None:
    """Align runs by seed and item.

    Args:
        runs: By method, each of them :func:`is_usable`.

    Returns:
        None if no seed is there for all, or items are not the same.
    """
    by_seed = {method: {record.run.seed: record for record in group} for method, group in runs.items()}
    seeds = tuple(sorted(set.intersection(*(set(found) for found in by_seed.values())))) if by_seed else ()
    if not seeds:
        return None
    chosen = {method: [found[seed].items for seed in seeds] for method, found in by_seed.items()}
    everything = [items for group in chosen.values() for items in group]
    labels = everything[0].labels
    if any(items.labels != labels for items in everything):
        return None
    answered = all(len(items.correct) == len(labels) for items in everything)
    return Pairs(
        seeds=seeds,
        labels=np.array(labels, dtype=float),
        losses={method: np.array([items.loss for items in group]) for method, group in chosen.items()},
        correct={method: np.array([items.correct for items in group], dtype=float) for method, group in chosen.items()}
        if answered
        else {},
    )


def is_usable(record: RunRecord) -> bool:
    """Whether a run has a finite loss for every test item."""
    items = record.items
    return record.status == "success" and bool(items.loss) and all(math.isfinite(loss) for loss in items.loss)
