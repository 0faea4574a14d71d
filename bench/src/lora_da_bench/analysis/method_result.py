"""What the runs of one method at one rank amount to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lora_da_bench.analysis.pairs import is_usable, pair_runs
from lora_da_bench.analysis.significance import Estimate, estimate_mean
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.experiment.selection import Selection, average_sweep


@dataclass(frozen=True)
class GridPoint:
    """A method at one learning rate of the sweep.

    Attributes:
        learning_rate: The peak.
        step: Where the mean is lowest.
        loss: The mean validation loss there; infinite if a seed's run diverged or failed, None if one is missing.
        low: The lowest of the seeds.
        high: The highest.
    """

    learning_rate: float
    step: int | None
    loss: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CurvePoint:
    """A moment of the final runs: their mean validation loss, the lowest and the highest, and their mean seconds."""

    step: int
    seconds: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodResult:
    """A method at one rank.

    Attributes:
        name: In the registry.
        grid: The sweep, by ascending learning rate.
        selection: What the sweep selects; None if it selects nothing (yet).
        seeds: Of its finished final runs at the selection, those that everything below rests on.
        unsuccessful: How many final runs diverged or failed.
        test_loss: Per label; None without final runs.
        accuracy: From 0 to 1; None without answers.
        figures: Means over the final runs: ``f1``, ``matthews``, ``step0_loss``, ``forgetting`` (the increase of the
            loss on unrelated text), ``init_seconds``, ``train_seconds``; the largest ``init_peak_gib``,
            ``train_peak_gib`` and ``trainable_parameters``. Without those that were not measured.
        adapter: Alpha, scaling and rslora as its runs had them.
        curve: Validation losses over the final runs.
        steps_to_lora: Optimiser steps at the first measurement at which vanilla LoRA's final mean validation loss is
            reached; None if never.
        seconds_to_lora: The same in seconds, the initialisation included.
    """

    name: str
    grid: tuple[GridPoint, ...]
    selection: Selection | None
    seeds: tuple[int, ...]
    unsuccessful: int
    test_loss: Estimate | None
    accuracy: Estimate | None
    figures: Mapping[str, float]
    adapter: Mapping[str, Any]
    curve: tuple[CurvePoint, ...]
    steps_to_lora: int | None
    seconds_to_lora: float | None

    @property
    def seconds(self) -> float:
        """Initialisation and training."""
        return self.figures.get("init_seconds", 0.0) + self.figures.get("train_seconds", 0.0)


def summarise_method(
    name: str,
    sweep: Sequence[RunRecord],
    finals: Sequence[RunRecord],
    *,
    selection: Selection | None,
    seeds: Collection[int],
    target: float | None,
) -> MethodResult:
    """Sum up a method.

    Args:
        name: In the registry.
        sweep: Its runs of the sweep.
        finals: Its final runs at the selection.
        selection: What the sweep selected.
        seeds: Of the sweep.
        target: Vanilla LoRA's final mean validation loss.
    """
    good = [record for record in finals if is_usable(record)]
    pairs = pair_runs({name: good})
    figures = _figures(good)
    curve = average_curves(good)
    steps, seconds = _reached(curve, target, figures.get("init_seconds", 0.0))
    return MethodResult(
        name=name,
        grid=_grid(name, sweep, seeds),
        selection=selection,
        seeds=tuple(sorted(record.run.seed for record in good)),
        unsuccessful=len(finals) - len(good),
        test_loss=estimate_mean(pairs.losses[name], pairs.labels) if pairs else None,
        accuracy=estimate_mean(pairs.correct[name]) if pairs and pairs.correct else None,
        figures=figures,
        adapter=next((record.adapter for record in [*good, *sweep] if record.adapter), {}),
        curve=curve,
        steps_to_lora=steps,
        seconds_to_lora=seconds,
    )


def average_curves(records: Sequence[RunRecord]) -> tuple[CurvePoint, ...]:
    """Average the validation losses along runs, at the steps that all of them measured."""
    curves = [{point.step: point for point in record.curve} for record in records]
    found = []
    for step in sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []:
        points = [curve[step] for curve in curves]
        losses = [point.validation_loss for point in points]
        found.append(
            CurvePoint(step, fmean(point.seconds for point in points), fmean(losses), min(losses), max(losses))
        )
    return tuple(found)


def _grid(name: str, sweep: Sequence[RunRecord], seeds: Collection[int]) -> tuple[GridPoint, ...]:
    means = average_sweep(sweep, seeds)
    points = []
    for rate in sorted({record.run.learning_rate for record in sweep}):
        steps = {step: loss for (_, at, step), loss in means.items() if at == rate and step > 0}
        if not steps:
            points.append(GridPoint(rate, None, None, None, None))
            continue
        loss, step = min((loss, step) for step, loss in steps.items())
        if not math.isfinite(loss):
            points.append(GridPoint(rate, None, math.inf, None, None))
            continue
        runs = [record for record in sweep if record.run.learning_rate == rate and record.run.seed in seeds]
        losses = [point.validation_loss for record in runs for point in record.curve if point.step == step]
        points.append(GridPoint(rate, step, loss, min(losses), max(losses)))
    return tuple(points)


def _figures(records: Sequence[RunRecord]) -> dict[str, float]:
    def change(record: RunRecord) -> float | None:
        before, after = record.metrics.get("forgetting_base"), record.metrics.get("forgetting")
        return None if before is None or after is None else after - before

    found: dict[str, float | None] = {
        name: _over(fmean, [record.metrics.get(name) for record in records])
        for name in ("f1", "matthews", "step0_loss", "init_seconds", "train_seconds")
    }
    found["forgetting"] = _over(fmean, [change(record) for record in records])
    for part in ("init", "train"):
        peak = _over(max, [record.metrics.get(f"{part}_peak_bytes") for record in records])
        found[f"{part}_peak_gib"] = None if peak is None else peak / 2**30
    found["trainable_parameters"] = _over(max, [record.metrics.get("trainable_parameters") for record in records])
    return {name: value for name, value in found.items() if value is not None}


def _over(function: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if known else None


def _reached(curve: Sequence[CurvePoint], target: float | None, init_seconds: float) -> tuple[int | None, float | None]:
    """Steps and seconds at the first measurement of a curve that is at or below a loss."""
    if target is not None:
        for point in curve:
            if point.loss <= target:
                return point.step, init_seconds + point.seconds
    return None, None
