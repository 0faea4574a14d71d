from __future__ import annotations

from pathlib import Path

import pytest

from lora_da_bench.compare import compare
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.record import load_records
from small import described


@pytest.mark.slow
def test_runs_on_ray_give_what_runs_here_give(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    experiment = describe_experiment(described(tmp_path))
    compare(experiment, tmp_path / "here")
    try:
        compare(experiment, tmp_path / "ray", on_ray=True)
    finally:
        ray.shutdown()
    here, there = (load_records(tmp_path / name / RUNS) for name in ("here", "ray"))
    assert len(here) == 4
    assert {record.status for record in here} == {"success"}
    assert [record.run for record in here] == [record.run for record in there]
    for mine, other in zip(here, there, strict=True):
        # Workers use another number of threads, so sums round otherwise.
        assert other.metrics["validation_loss"] == pytest.approx(mine.metrics["validation_loss"], rel=1e-4)
