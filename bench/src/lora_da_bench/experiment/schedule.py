"""Which runs a comparison consists of, decided from the description and the records so far alone.

The same records always give the same plan, so a comparison that was killed goes on where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from lora_da_bench.experiment.description import VANILLA, Experiment, Protocol
from lora_da_bench.experiment.record import Run, RunRecord
from lora_da_bench.experiment.selection import Selection, select_rates

_ROUNDED_STEP = 1.02  # three digits are a hundredth apart at most

CHARGED_FROM = 0.01
"""Of the training time: a shorter initialisation is within the noise of a clock, and not charged."""


def spread_measurements(steps: int, evaluations: int) -> list[int]:
    """Spread the steps after which losses are measured evenly, the last step among them."""
    return sorted({math.ceil(index * steps / evaluations) for index in range(1, evaluations + 1)})


def plan_runs(experiment: Experiment, records: Sequence[RunRecord]) -> list[Run]:
    """List all runs that are known to be needed at this moment, finished ones included.

    A stage is planned once the one before it is finished: the sweep, which may grow, then the final runs at the
    selected learning rates, then vanilla LoRA with the time of an initialisation.
    """
    runs: list[Run] = []
    for rank in experiment.ranks:
        here = [record for record in records if record.run.rank == rank]
        runs += _runs_at(experiment, rank, here)
    return runs


def list_later_stages(experiment: Experiment, records: Sequence[RunRecord]) -> list[str]:
    """Say what will be planned once all that is planned now is finished; nothing at the end."""
    done = {record.run for record in records}
    found: dict[str, None] = {}
    for rank in experiment.ranks:
        planned = _runs_at(experiment, rank, [record for record in records if record.run.rank == rank])
        if done.issuperset(planned):
            continue
        stages, protocol = {run.stage for run in planned}, experiment.protocol
        if "final" not in stages:
            if protocol.growth:
                found["more learning rates, if the best of a method is the last of the grid"] = None
            count = len(experiment.methods) * len(protocol.fresh_seeds)
            found[f"the final runs ({count} at each rank)"] = None
        if "compute" not in stages and experiment.charge_init:
            found[f"LoRA at equal compute, where an init takes {CHARGED_FROM:.0%} of the training or more"] = None
    return list(found)


def _runs_at(experiment: Experiment, rank: int, records: list[RunRecord]) -> list[Run]:
    done = {record.run for record in records}
    rates = list(experiment.protocol.learning_rates)
    while True:
        sweep = _sweep(experiment, rank, rates)
        if not done.issuperset(sweep):
            return sweep
        selected = select_rates([record for record in records if record.run in sweep], experiment.methods, rank)
        grown = _grown(rates, experiment.protocol, selected)
        if grown == rates:
            break
        rates = grown
    final = _final(experiment, rank, selected)
    if not experiment.charge_init or not done.issuperset(final):
        return sweep + final
    return sweep + final + _charged(experiment, rank, selected, [record for record in records if record.run in final])


def _sweep(experiment: Experiment, rank: int, rates: Sequence[float]) -> list[Run]:
    """Seed by seed, so that what is there of an unfinished sweep is fair to all methods."""
    protocol = experiment.protocol
    return [
        Run("sweep", method, rank, rate, seed, protocol.steps)
        for seed in protocol.seeds
        for rate in rates
        for method in experiment.methods
    ]


def _grown(rates: list[float], protocol: Protocol, selected: dict[str, Selection]) -> list[float]:
    """The grid with one more point on each side where a method's best is the last, within the allowed growth."""
    edges = {selection.at_edge for selection in selected.values()}
    below = sum(rate < protocol.learning_rates[0] for rate in rates)
    above = sum(rate > protocol.learning_rates[-1] for rate in rates)
    step = (
        protocol.learning_rates[1] / protocol.learning_rates[0] if len(protocol.learning_rates) > 1 else math.sqrt(10)
    )
    lower, upper = _rounded(rates[0] / step, step), _rounded(rates[-1] * step, step)
    grown = list(rates)
    if "lower" in edges and below < protocol.growth and 0.0 < lower < rates[0]:
        grown.insert(0, lower)
    if "upper" in edges and above < protocol.growth and rates[-1] < upper < math.inf:
        grown.append(upper)
    return grown


def _rounded(rate: float, step: float) -> float:
    """A rate in three digits, or as it is where steps are so small that it might become another of the grid."""
    return float(f"{rate:.3g}") if step > _ROUNDED_STEP else rate


def _final(experiment: Experiment, rank: int, selected: dict[str, Selection]) -> list[Run]:
    at = {method: (choice.learning_rate, choice.step) for method, choice in selected.items()}
    return [
        Run("final", method, rank, at[method][0], seed, experiment.protocol.steps, at[method][1])
        for seed in experiment.protocol.fresh_seeds
        for method in experiment.methods
        if method in at
    ]


def _charged(
    experiment: Experiment, rank: int, selected: dict[str, Selection], records: Sequence[RunRecord]
) -> list[Run]:
    """Vanilla LoRA with as many more steps as fit into a method's initialisation."""
    protocol, runs = experiment.protocol, []
    vanilla = [record for record in records if record.run.method == VANILLA and record.status == "success"]
    if not vanilla:
        return []
    # Medians: a machine that was busy for a moment must not give or take steps.
    step_seconds = _median([record.metrics["train_seconds"] for record in vanilla]) / protocol.steps
    for method in (name for name in experiment.methods if name != VANILLA):
        inits = [record.metrics["init_seconds"] for record in records if record.run.method == method and record.curve]
        if not inits or _median(inits) < CHARGED_FROM * protocol.steps * step_seconds:
            continue
        steps = protocol.steps + math.ceil(_median(inits) / step_seconds)
        # The same of its measurements as selected, at the place it has in the longer schedule.
        before = spread_measurements(protocol.steps, protocol.evaluations).index(selected[VANILLA].step)
        step = spread_measurements(steps, protocol.evaluations)[before]
        runs += [
            Run("compute", VANILLA, rank, selected[VANILLA].learning_rate, seed, steps, step, charged_for=method)
            for seed in protocol.fresh_seeds
        ]
    return runs


def _median(values: Sequence[float | int | None]) -> float:
    return float(median(value for value in values if value is not None))
