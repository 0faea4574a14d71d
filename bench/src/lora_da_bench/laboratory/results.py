"""What the runs show: each arm's best learning rate, its test losses there, and paired differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_da_bench.analysis.significance import Array, Difference, estimate_difference
from lora_da_bench.laboratory.runs import Grid, LaboratoryRecord, LaboratoryRun, name_arm

REFERENCES = ("random_frozen", "eva_frozen", "paper_frozen", "lora_trained")
"""What other arms are compared with: knowing nothing, the competitor, the paper; and LoRA, where A is trained too."""


@dataclass(frozen=True)
class Cell:
    """An arm on a domain at its best learning rate.

    Attributes:
        learning_rate: That of least mean selection loss.
        edge: Whether it is the lowest or the highest of the grid, so that a better one may lie beyond.
        seeds: S of them, those that have a run at every learning rate.
        losses: (S, I), of each block of the test split.
    """

    learning_rate: float
    edge: Literal["low", "high"] | None
    seeds: tuple[int, ...]
    losses: Array


@dataclass(frozen=True)
class ArmResult:
    """An arm at one rank.

    Attributes:
        arm: Method, and what is trained.
        cells: By domain, where it has runs enough.
        differences: This arm's loss minus that of each of :data:`REFERENCES` that trains as much of the adapter, the
            mean over all domains; left out where one of the two lacks a domain, and of a reference itself.
        diverged: How many of its runs did.
    """

    arm: str
    cells: Mapping[str, Cell]
    differences: Mapping[str, Difference]
    diverged: int

    def mean(self, domains: Collection[str]) -> float:
        """The mean test loss over some domains; not a number where one of them is missing."""
        found = [float(self.cells[domain].losses.mean()) if domain in self.cells else math.nan for domain in domains]
        return sum(found) / len(found)


def summarise(grid: Grid, records: Mapping[LaboratoryRun, LaboratoryRecord], rank: int) -> list[ArmResult]:
    """Select and compare the arms of a grid at one rank.

    Intervals are those of the bench's comparisons, over seeds and test blocks, and hold for all differences of one
    rank at once, with 95 %. The domains are fixed: nothing is said of others.
    """
    arms = [name_arm(method, train_a=train_a) for method, train_a in grid.arms]
    mine = [record for run, record in records.items() if run.rank == rank and run.domain in grid.domains]
    cells = {
        arm: {
            domain: cell
            for domain in grid.domains
            if (cell := _select(grid, [r for r in mine if (r.run.arm, r.run.domain) == (arm, domain)]))
        }
        for arm in arms
    }
    pairs = [pair for pair in itertools.product(arms, REFERENCES) if pair[1] in arms and _comparable(*pair)]
    comparisons = len({frozenset(pair) for pair in pairs})
    differences = {
        (arm, other): found
        for arm, other in pairs
        if (found := _differ(cells[arm], cells[other], grid.domains, comparisons))
    }
    return [
        ArmResult(
            arm,
            cells[arm],
            {other: difference for (own, other), difference in differences.items() if own == arm},
            sum(record.status == "diverged" for record in mine if record.run.arm == arm),
        )
        for arm in arms
    ]


def _comparable(arm: str, other: str) -> bool:
    """Whether two arms differ, and train as much of the adapter as each other."""
    return arm != other and arm.endswith("_frozen") == other.endswith("_frozen")


def _select(grid: Grid, records: Iterable[LaboratoryRecord]) -> Cell | None:
    """The best of the rates at which no run diverged, over the seeds that have them all; None if there is none."""
    by_place = {(record.run.learning_rate, record.run.seed): record for record in records}
    seeds = tuple(seed for seed in grid.seeds if all((rate, seed) in by_place for rate in grid.learning_rates))
    losses: dict[float, float] = {}
    for rate in grid.learning_rates if seeds else ():
        found = [by_place[rate, seed].selection_loss for seed in seeds]
        finite = [loss for loss in found if loss is not None]
        if len(finite) == len(found):
            losses[rate] = sum(finite) / len(finite)
    if not losses:
        return None
    best = min(losses, key=lambda rate: losses[rate])
    edge: Literal["low", "high"] | None = None
    if len(grid.learning_rates) > 1 and best in (min(grid.learning_rates), max(grid.learning_rates)):
        edge = "low" if best == min(grid.learning_rates) else "high"
    return Cell(best, edge, seeds, np.array([by_place[best, seed].test_losses for seed in seeds]))


def _differ(
    mine: Mapping[str, Cell], theirs: Mapping[str, Cell], domains: Collection[str], comparisons: int
) -> Difference | None:
    """The mean difference over all domains, paired by seed and block."""
    found = [(mine[domain], theirs[domain]) for domain in domains if domain in mine and domain in theirs]
    if len(found) < len(domains):
        return None
    seeds = set.intersection(*(set(cell.seeds) for pair in found for cell in pair))
    if not seeds:
        return None
    parts = [_rows(own, seeds) - _rows(other, seeds) for own, other in found]
    return estimate_difference(np.concatenate(parts, axis=1), comparisons=comparisons)


def _rows(cell: Cell, seeds: set[int]) -> Array:
    """The losses of some seeds, in the cell's order, which is the grid's for all."""
    kept: Array = cell.losses[[index for index, seed in enumerate(cell.seeds) if seed in seeds]]
    return kept
