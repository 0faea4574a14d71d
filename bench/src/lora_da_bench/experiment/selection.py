"""Which learning rate and checkpoint of each method are reported: those with the best validation loss in the sweep."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from lora_da_bench.experiment.record import RunRecord

Edge = Literal["lower", "upper"]


@dataclass(frozen=True)
class Selection:
    """What the sweep selects for a method.

    Attributes:
        learning_rate: The peak.
        step: At which the test split's answers are taken.
        validation_loss: Its mean over the sweep's seeds.
        at_edge: On which side of the method's grid there is no further learning rate; None inside the grid. A grid of
            one rate has nothing on either side and counts as "lower".
    """

    learning_rate: float
    step: int
    validation_loss: float
    at_edge: Edge | None


def average_sweep(records: Sequence[RunRecord], seeds: Collection[int] = ()) -> dict[tuple[str, float, int], float]:
    """Average the validation losses of a sweep over its seeds.

    Args:
        records: Of one rank; other stages than the sweep are left out.
        seeds: That a grid point needs to count; by default all that the sweep's records have.

    Returns:
        The mean by (method, learning rate, step); infinite where a seed's run diverged or failed. Grid points at which
        a seed's run is missing are left out, and steps that not all seeds measured.
    """
    points: dict[tuple[str, float], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.run.stage == "sweep":
            points[record.run.method, record.run.learning_rate].append(record)
    needed = set(seeds) or {record.run.seed for group in points.values() for record in group}
    means: dict[tuple[str, float, int], float] = {}
    for (method, rate), group in points.items():
        counted = {record.run.seed: record for record in group if record.run.seed in needed}
        if set(counted) != needed:
            continue
        finished = [record for record in counted.values() if record.status == "success"]
        if len(finished) < len(counted):
            # A run that diverged is worse than any other, also where the seeds beside it went well.
            means[method, rate, group[0].run.steps] = math.inf
            means |= {(method, rate, point.step): math.inf for record in group for point in record.curve}
            continue
        curves = [{point.step: point.validation_loss for point in record.curve} for record in finished]
        for step in sorted(set.intersection(*(set(curve) for curve in curves))):
            means[method, rate, step] = math.fsum(curve[step] for curve in curves) / len(curves)
    return means


def select_rates(
    records: Sequence[RunRecord], methods: Sequence[str], rank: int, seeds: Collection[int] = ()
) -> dict[str, Selection]:
    """Select the learning rate and the step with the best mean validation loss, for each method.

    Step 0, the initialisation alone, is not eligible. Of equal losses the smaller rate wins, then the earlier step.

    Args:
        records: Those of other ranks and stages are left out.
        methods: The methods to select for.
        rank: r.
        seeds: That a grid point needs to count; by default all that the sweep's records have.

    Returns:
        By method; without those of which no grid point is finished and finite.
    """
    sweep = [record for record in records if record.run.rank == rank and record.run.stage == "sweep"]
    means = average_sweep(sweep, seeds)
    selected = {}
    for method in methods:
        eligible = [
            (loss, rate, step)
            for (name, rate, step), loss in means.items()
            if name == method and step > 0 and math.isfinite(loss)
        ]
        if not eligible:
            continue
        loss, rate, step = min(eligible)
        grid = {record.run.learning_rate for record in sweep if record.run.method == method}
        at_edge: Edge | None = "lower" if rate == min(grid) else "upper" if rate == max(grid) else None
        selected[method] = Selection(rate, step, loss, at_edge)
    return selected
