from __future__ import annotations

from pathlib import Path

import pytest

from folders import sums_file, tiny_model_folder
from lora_da_bench.compare import compare
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.record import load_records


@pytest.mark.slow
def test_runs_on_ray_give_what_runs_here_give(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    experiment = describe_experiment(
        {
            "name": "tiny",
            "model": {"name": str(tiny_model_folder(tmp_path / "model")), "device": "cpu"},
            "task": {
                "kind": "generation",
                "train": str(sums_file(tmp_path / "train.jsonl", 40)),
                "test": str(sums_file(tmp_path / "test.jsonl", 4)),
                "validation_rows": 4,
                "accuracy": False,
            },
            "methods": ["lora", "lora-da"],
            "ranks": [2],
            "protocol": {"learning_rates": [1e-2], "steps": 2, "seeds": [0], "fresh_seeds": [1], "growth": 0},
            "calibration": {"examples": 4},
            "charge_init": False,
        }
    )
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
