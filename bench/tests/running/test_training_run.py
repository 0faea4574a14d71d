"""Single runs on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trl import SFTTrainer

from folders import sums_file, tiny_model_folder
from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.record import Run, load_record
from lora_da_bench.running import training
from lora_da_bench.running.training_run import carry_out_run

pytestmark = pytest.mark.filterwarnings("ignore:.*saw fewer tokens than they have input dimensions")
WORDS = [f"{a} {b}" for a in ("good", "bad", "fine", "dull", "great", "poor") for b in ("day", "film", "cake", "song")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carry_out_run")
    tiny_model_folder(folder / "model")
    sums_file(folder / "train.jsonl", 30)
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}\n#### {a + 1}"} for a in range(100, 105)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{text}\t{index % 2}\n" for index, text in enumerate(WORDS)]
    (folder / "train.tsv").write_text("sentence\tlabel\n" + "".join(lines[:18]))
    (folder / "test.tsv").write_text("sentence\tlabel\n" + "".join(lines[18:]))
    (folder / "text.txt").write_text("Call me Ishmael. Some years ago, never mind how long precisely. " * 20)
    return folder


def experiment(root: Path, kind: str = "generation", **changes: Any) -> Experiment:
    suffix = "tsv" if kind == "classification" else "jsonl"
    options = {"max_new_tokens": 4} if kind == "generation" else {}
    base: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": str(root / "model"), "device": "cpu"},
        "task": {
            "kind": kind,
            "train": str(root / f"train.{suffix}"),
            "test": str(root / f"test.{suffix}"),
            "validation_rows": 4,
            "options": options,
        },
        "ranks": [2],
        "protocol": {"steps": 4, "batch_size": 2, "evaluations": 2},
        "calibration": {"examples": 4},
    }
    return describe_experiment(base | changes)


def test_a_sweep_does_not_touch_the_test_split(root: Path, tmp_path: Path) -> None:
    record = carry_out_run(Run("sweep", "lora", 2, 1e-2, 0, 4), experiment(root), tmp_path)
    assert record.status == "success", record.error
    assert [point.step for point in record.curve] == [0, 2, 4]
    assert all(point.test_loss is None for point in record.curve)
    assert record.items.loss == record.items.correct == []
    assert record.metrics["test_loss"] is None
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss
    assert not (tmp_path / "outputs").exists()


def test_a_final_run_reports_its_selected_step(root: Path, tmp_path: Path) -> None:
    run = Run("final", "lora-da", 2, 1e-2, 0, 4, selected_step=2)
    record = carry_out_run(
        run, experiment(root, forgetting={"data": str(root / "text.txt"), "blocks": 2, "length": 32}), tmp_path
    )
    assert record.status == "success", record.error
    items = record.items
    assert len(items.loss) == len(items.labels) == len(items.correct) == 5
    selected = next(point for point in record.curve if point.step == 2)
    assert sum(items.loss) / sum(items.labels) == pytest.approx(selected.test_loss, rel=1e-5)
    assert record.metrics["test_loss"] == selected.test_loss
    assert record.metrics["accuracy"] == sum(items.correct) / 5
    answers = [json.loads(line) for line in (tmp_path / "outputs" / f"{run.name}.jsonl").read_text().splitlines()]
    assert [answer["expected"] for answer in answers] == [str(101 + index) for index in range(5)]
    for name in ("forgetting", "forgetting_base", "init_seconds", "train_seconds", "trainable_parameters"):
        assert record.metrics[name]
    assert record.metrics["forgetting"] != record.metrics["forgetting_base"]
    assert record.adapter == {"alpha": 16, "rslora": True, "scaling": [16 / 2**0.5]}


def test_records_survive_their_file(root: Path, tmp_path: Path) -> None:
    record = carry_out_run(Run("final", "lora", 2, 1e-2, 0, 2, selected_step=2), experiment(root), tmp_path)
    assert load_record(record.save(tmp_path / "runs")) == record


def test_classification(root: Path, tmp_path: Path) -> None:
    run = Run("final", "lora-da", 2, 1e-2, 0, 4, selected_step=4)
    record = carry_out_run(run, experiment(root, "classification"), tmp_path)
    assert record.status == "success", record.error
    assert record.items.labels == [1] * 6
    assert {"accuracy", "f1", "matthews"} <= record.metrics.keys()
    again = carry_out_run(run, experiment(root, "classification"), tmp_path)
    assert again.curve[-1].validation_loss == record.curve[-1].validation_loss  # the fresh head is of the seed too


def test_all_methods_of_a_seed_see_the_same_batches(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, int], list[Any]] = {}
    current: list[tuple[str, int]] = []

    class Spying(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
            seen.setdefault(current[-1], []).append(inputs["input_ids"].tolist())
            return super().training_step(model, inputs, *rest, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(training, "SFTTrainer", Spying)
    orders = {}
    for method, seed in (("lora", 0), ("lora-da", 0), ("lora", 1)):
        current.append((method, seed))
        record = carry_out_run(Run("sweep", method, 2, 1e-2, seed, 4), experiment(root), tmp_path)
        orders[method, seed] = record.about["order"]
    assert len(seen["lora", 0]) == 4
    assert seen["lora", 0] == seen["lora-da", 0]
    assert seen["lora", 0] != seen["lora", 1]
    assert orders["lora", 0] == orders["lora-da", 0] != orders["lora", 1]


def test_an_error_ends_in_the_record(root: Path, tmp_path: Path) -> None:
    record = carry_out_run(
        Run("sweep", "lora", 2, 1e-2, 0, 4), experiment(root, target_modules="no_such_layer"), tmp_path
    )
    assert record.status == "failed"
    assert "no_such_layer" in (record.error or "")
    assert load_record(record.save(tmp_path)).error == record.error
