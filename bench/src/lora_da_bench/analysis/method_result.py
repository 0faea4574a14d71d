"""What the runs of one method at one rank amount to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
        loss: The lowest mean validation loss of a step; infinite if a seed's run diverged or failed, None if one is
            missing.
        low: The lowest of the seeds there; None without a finite loss.
        high: The highest.
    """

    learning_rate: float
    loss: float | None = None
    low: float | None = None
    high: float | None = None


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
        seeds: Of the usable final runs at the selection, those that everything below rests on.
        unsuccessful: How many final runs diverged or failed.
        test_loss: Per label; None without final runs.
        accuracy: From 0 to 1; None without answers.
        figures: Of the final runs the means of ``f1``, ``matthews``, ``step0_loss``, ``forgetting`` (the increase of
            the loss on unrelated text), ``init_seconds`` and ``train_seconds``, and the largest ``init_peak_gib``,
            ``train_peak_gib`` and ``trainable_parameters``; without those that were not measured.
        adapter: Alpha, scaling and rslora as its runs had them.
        curve: Validation losses over the final runs.
        steps_to_lora: Steps at the first measurement at or below vanilla LoRA's final mean loss; None if never.
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
    """Sum up a method's runs of the sweep and its final runs; ``target`` is vanilla LoRA's final mean loss."""
    good = [record for record in finals if is_usable(record)]
    pairs = pair_runs({name: good})
    figures = _figures(good)
    curve = average_curves(good)
    reached = next((point for point in curve if target is not None and point.loss <= target), None)
    return MethodResult(
        name=name,
        grid=tuple(_grid(name, sweep, seeds)),
        selection=selection,
        seeds=tuple(sorted(record.run.seed for record in good)),
        unsuccessful=len(finals) - len(good),
        test_loss=estimate_mean(pairs.losses[name], pairs.labels) if pairs else None,
        accuracy=estimate_mean(pairs.correct[name]) if pairs and pairs.correct else None,
        figures=figures,
        adapter=next((record.adapter for record in [*good, *sweep] if record.adapter), {}),
        curve=curve,
        steps_to_lora=reached.step if reached else None,
        seconds_to_lora=figures.get("init_seconds", 0.0) + reached.seconds if reached else None,
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


def _grid(name: str, sweep: Sequence[RunRecord], seeds: Collection[int]) -> Iterator[GridPoint]:
    means = average_sweep(sweep, seeds)
    for rate in sorted({record.run.learning_rate for record in sweep}):
        found = [(loss, step) for (_, at, step), loss in means.items() if at == rate and step > 0]
        if not found or not math.isfinite(min(found)[0]):
            yield GridPoint(rate, math.inf if found else None)
            continue
        loss, step = min(found)
        runs = [record for record in sweep if record.run.learning_rate == rate and record.run.seed in seeds]
        losses = [point.validation_loss for record in runs for point in record.curve if point.step == step]
        yield GridPoint(rate, loss, min(losses), max(losses))


def _figures(records: Sequence[RunRecord]) -> dict[str, float]:
    found: dict[str, float] = {}

    def add(name: str, function: Callable[[list[float]], float], values: Iterable[float | None]) -> None:
        known = [value for value in values if value is not None]
        if known:
            found[name] = function(known)

    metrics = [record.metrics for record in records]
    for name in ("f1", "matthews", "step0_loss", "init_seconds", "train_seconds"):
        add(name, fmean, (each.get(name) for each in metrics))
    unrelated = [(each.get("forgetting_base"), each.get("forgetting")) for each in metrics]
    add("forgetting", fmean, (b - a for a, b in unrelated if a is not None and b is not None))
    for part in ("init", "train"):
        add(f"{part}_peak_gib", lambda peaks: max(peaks) / 2**30, (each.get(f"{part}_peak_bytes") for each in metrics))
    add("trainable_parameters", max, (each.get("trainable_parameters") for each in metrics))
    return found
