"""What the runs of one method amount to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analysis.test_summary import EXPERIMENT, of, summary_of
from lora_da_bench.analysis.method_result import CurvePoint, average_curves
from lora_da_bench.experiment.record import Point, Run
from simulated_records import record, simulated


def test_curves_are_averaged_at_the_steps_that_all_have() -> None:
    run = Run("final", "lora", 8, 1e-3, 0, 20)
    curves = [[Point(0, 0.0, 3.0), Point(10, 4.0, 2.0)], [Point(5, 1.0, 9.0), Point(10, 6.0, 1.0)]]
    assert average_curves([record(run, curve) for curve in curves]) == (CurvePoint(10, 5.0, 1.5, 1.0, 2.0),)
    assert average_curves([]) == ()


def test_steps_and_seconds_until_loras_loss() -> None:
    records = simulated(EXPERIMENT, {"lora-da": 0.25, "pissa": -0.1}, seed_effect=0.0)
    methods = {method.name: method for method in summary_of(records).methods}
    # Losses are measured at steps 0, 10 and 20 and fall by 0.05 a step, from 1.75 to 0.75, and LoRA ends at 1; a step
    # takes half a second, the init two.
    assert methods["lora-da"].steps_to_lora == 20
    assert methods["lora-da"].seconds_to_lora == pytest.approx(2 + 10)
    assert methods["lora"].steps_to_lora == 20
    assert methods["pissa"].steps_to_lora is None
    assert methods["pissa"].seconds_to_lora is None


def test_a_grid_point_that_diverged_or_is_unfinished() -> None:
    records = simulated(EXPERIMENT)
    swept = [found for found in of(records, "lora", "sweep") if found.run.seed == 0]
    diverged, absent = (next(f for f in swept if f.run.learning_rate == rate) for rate in (1e-2, 1e-4))
    records[records.index(diverged)] = replace(diverged, status="diverged", curve=diverged.curve[:1])
    records.remove(absent)
    (method,) = (method for method in summary_of(records).methods if method.name == "lora")
    assert [point.loss is None for point in method.grid] == [True, False, False]
    assert method.grid[2].loss == math.inf
