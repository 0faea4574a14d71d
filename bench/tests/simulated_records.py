"""Records of a comparison that nobody ran, with effects that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.record import Items, Point, Run, RunRecord, Stage

MEASURED = (0, 10, 20)
ITEMS = 60


def description(**changes: Any) -> Experiment:
    """A comparison of four methods on a small grid."""
    content: dict[str, Any] = {
        "name": "simulated",
        "model": {"name": "tiny", "dtype": "float32"},
        "task": {"kind": "generation", "train": "train.jsonl", "test": "test.jsonl"},
        "methods": ["lora", "pissa", "lora-one", "lora-da"],
        "protocol": {"learning_rates": [1e-4, 1e-3, 1e-2], "steps": 20, "evaluations": 2},
        "charge_init": False,
    }
    content |= changes
    content["protocol"] = {"fresh_seeds": [100, 101, 102]} | content["protocol"]
    return describe_experiment(content)


def simulated(
    experiment: Experiment,
    gains: Mapping[str, float] | None = None,
    *,
    best_rate: float = 1e-3,
    accuracy: float | None = None,
    seed_effect: float = 0.002,
) -> list[RunRecord]:
    """All runs of the sweep and the final stage.

    Args:
        experiment: The description.
        gains: What is taken off a method's loss per label, and in part added to its chance of a right answer.
        best_rate: Where losses are lowest.
        accuracy: The chance of a right answer without a gain; None takes no answers.
        seed_effect: Standard deviation of what a seed adds to a method's loss.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(20, 100, size=ITEMS)
    item_effects, luck = 0.3 * generator.normal(size=ITEMS), generator.random(ITEMS)
    protocol, records = experiment.protocol, []
    stages: list[tuple[Stage, tuple[int, ...], tuple[float, ...]]] = [
        ("sweep", protocol.seeds, protocol.learning_rates),
        ("final", protocol.fresh_seeds, (best_rate,)),
    ]
    for rank in experiment.ranks:
        for stage, seeds, rates in stages:
            for method in experiment.methods:
                for rate in rates:
                    for seed in seeds:
                        gain = (gains or {}).get(method, 0.0)
                        away = 0.05 * abs(math.log10(rate / best_rate))
                        loss = 1.0 + away - gain + seed_effect * float(generator.normal())
                        curve = [Point(step, 0.5 * step, loss + 1.0 - step / MEASURED[-1]) for step in MEASURED]
                        run = Run(stage, method, rank, rate, seed, protocol.steps)
                        if stage == "sweep":
                            records.append(record(run, curve))
                            continue
                        noise = 0.01 * generator.normal(size=ITEMS)
                        correct = [] if accuracy is None else [bool(x < accuracy + 3 * gain) for x in luck]
                        items = Items(
                            [float(x) for x in labels * (loss + item_effects + noise)], labels.tolist(), correct
                        )
                        run = Run(stage, method, rank, rate, seed, protocol.steps, MEASURED[-1])
                        records.append(record(run, curve, items))
    return records


def record(run: Run, curve: list[Point], items: Items | None = None) -> RunRecord:
    """A run that went well."""
    return RunRecord(
        run=run,
        status="success",
        error=None,
        curve=curve,
        items=items or Items(),
        metrics={
            "validation_loss": curve[-1].validation_loss,
            "step0_loss": curve[0].validation_loss,
            "forgetting_base": 3.0,
            "forgetting": 3.25,
            "init_seconds": 2.0,
            "train_seconds": 10.0,
            "init_peak_bytes": 2**30,
            "train_peak_bytes": 2**31,
            "trainable_parameters": 1234,
        },
        adapter={"alpha": 16, "rslora": True, "scaling": [5.657]},
        about={
            "experiment": "simulated",
            "finished": "2026-01-01T00:00:00",
            "machine": "2 CPU cores",
            "versions": {"python": "3.11"},
            "rows": {"train": 900, "validation": 200, "test": ITEMS},
        },
    )
