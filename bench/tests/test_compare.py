"""Whole comparisons on a tiny model: real training, real files."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn

from lora_da_bench import compare as module
from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.compare import check_experiment, compare, estimate_seconds, list_missing_runs
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.record import Run, RunRecord, load_records
from lora_da_bench.methods import registry
from lora_da_bench.methods.method import Method, Setup
from lora_da_bench.running.training_run import carry_out_run
from small import described, toml_file

pytestmark = pytest.mark.filterwarnings("ignore:.*saw fewer tokens than they have input dimensions")
TIMINGS = {"wall_seconds", "init_seconds", "train_seconds", "init_peak_bytes", "train_peak_bytes"}


def description(folder: Path, **changes: Any) -> dict[str, Any]:
    """A comparison of LoRA and LoRA-DA at two rates and with two seeds each."""
    protocol = {"learning_rates": [3e-3, 1e-2], "steps": 4, "batch_size": 4, "seeds": [0, 1], "fresh_seeds": [10, 11]}
    protocol |= {"evaluations": 2} | changes.pop("protocol", {})
    methods = changes.pop("methods", ["lora", "lora-da"])
    return described(folder, methods=methods, protocol=protocol, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture
def registered() -> Iterator[Any]:
    before = dict(registry.METHODS)
    yield registry.register_method
    registry.METHODS.clear()
    registry.METHODS.update(before)


def figures(record: RunRecord) -> dict[str, Any]:
    """All that must not depend on when and how a run was carried out."""
    content = dataclasses.asdict(record)
    content["metrics"] = {name: value for name, value in record.metrics.items() if name not in TIMINGS}
    content["curve"] = [(point.step, point.validation_loss, point.test_loss) for point in record.curve]
    del content["about"]["finished"]
    return content


def pretrained(setup: Setup) -> nn.Module:
    """LoRA that has seen the task before: truly better than any fresh one."""
    model = get_peft_model(setup.model, setup.lora)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(30):
        for batch in setup.batches:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    return model


@pytest.mark.slow
def test_a_truly_better_method_wins(root: Path, tmp_path: Path, registered: Any) -> None:
    registered(Method("pretrained", "LoRA that has seen the task", pretrained, uses_data=True))
    protocol = {"fresh_seeds": [10, 11, 12]}
    changes = {"methods": ["lora", "pretrained"], "protocol": protocol, "calibration": {"examples": 40}, "ranks": [16]}
    experiment = describe_experiment(description(root, **changes))
    compare(experiment, tmp_path)
    records = load_records(tmp_path / RUNS)
    assert len(records) == 2 * 2 * 2 + 2 * 3
    assert {record.status for record in records} == {"success"}
    assert "pretrained is better than every other method" in (tmp_path / "report.md").read_text()
    (rank,) = summarise_records(records, experiment).ranks
    assert rank.loss.winner == "pretrained"


def test_the_same_method_under_two_names_is_not_told_apart(root: Path, tmp_path: Path, registered: Any) -> None:
    lora = registry.get_method("lora")
    registered(dataclasses.replace(lora, name="twin"))
    experiment = describe_experiment(description(root, methods=["lora", "twin"]))
    compare(experiment, tmp_path)
    finals = {
        (record.run.method, record.run.seed): record
        for record in load_records(tmp_path / RUNS)
        if record.run.stage == "final"
    }
    for seed in (10, 11):
        mine, other = finals["lora", seed], finals["twin", seed]
        # The same seeds, batches and order: identical to the last digit.
        assert mine.items == other.items
        assert [point.validation_loss for point in mine.curve] == [point.validation_loss for point in other.curve]
    assert finals["lora", 10].items != finals["lora", 11].items


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_to_the_same_results(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = describe_experiment(description(root))
    compare(experiment, tmp_path / "whole")
    carried_out: list[Run] = []

    def interrupted(run: Run, *rest: Any) -> RunRecord:
        carried_out.append(run)
        if len(carried_out) in (3, 7, 11):
            raise KeyboardInterrupt
        return carry_out_run(run, *rest)

    monkeypatch.setattr(module, "carry_out_run", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            compare(experiment, tmp_path / "parts")
    compare(experiment, tmp_path / "parts")
    whole, parts = (load_records(tmp_path / name / RUNS) for name in ("whole", "parts"))
    assert [figures(record) for record in whole] == [figures(record) for record in parts]
    assert len(carried_out) == len(whole) + 3  # nothing but the interrupted runs was repeated


def test_failures_are_recorded_and_tried_again(
    root: Path, tmp_path: Path, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"now": True}

    def initialise(setup: Setup) -> nn.Module:
        if broken["now"]:
            raise RuntimeError("out of paper")
        return get_peft_model(setup.model, setup.lora)

    registered(Method("fragile", "fails at first", initialise))
    experiment = describe_experiment(description(root, methods=["lora", "fragile"]))
    compare(experiment, tmp_path)
    failed = [record for record in load_records(tmp_path / RUNS) if record.status == "failed"]
    assert {record.run.method for record in failed} == {"fragile"}
    assert failed[0].error == "RuntimeError: out of paper"
    assert "out of paper" in (tmp_path / "report.md").read_text()
    broken["now"] = False
    compare(experiment, tmp_path)
    assert {record.status for record in load_records(tmp_path / RUNS)} == {"success"}


def test_divergence_is_a_result(root: Path, tmp_path: Path, registered: Any) -> None:
    def initialise(setup: Setup) -> nn.Module:
        model = get_peft_model(setup.model, setup.lora)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                nn.init.constant_(parameter, float("nan"))
        return model

    registered(Method("nan", "not a number", initialise))
    experiment = describe_experiment(description(root, methods=["lora", "nan"]))
    compare(experiment, tmp_path)
    records = load_records(tmp_path / RUNS)
    assert {record.status for record in records if record.run.method == "nan"} == {"diverged"}
    assert not [record for record in records if record.run.method == "nan" and record.run.stage == "final"]
    assert list_missing_runs(experiment, records) == []


def test_only_some_methods_and_methods_added_later(root: Path, tmp_path: Path) -> None:
    experiment = describe_experiment(description(root))
    compare(experiment, tmp_path, only=["lora"])
    assert {record.run.method for record in load_records(tmp_path / RUNS)} == {"lora"}
    more = describe_experiment(description(root, methods=["lora", "lora-da", "pissa"]))
    compare(more, tmp_path, only=["pissa"])
    kept = json.loads((tmp_path / "experiment.json").read_text())
    assert [entry["methods"] for entry in kept["methods_added"]] == [["pissa"]]


def test_answers_that_cannot_be_graded_are_found_before_any_run(root: Path, tmp_path: Path) -> None:
    content = description(root, task={"accuracy": True})  # the sums have no "####"
    with pytest.raises(ValueError, match="Row 0: The reference has no number"):
        compare(describe_experiment(content), tmp_path)
    assert not (tmp_path / RUNS).exists()


def test_a_column_that_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    content = description(root, task={"options": {"prompt": "question"}})
    with pytest.raises(ValueError, match=r"has no column 'question', but .*--option prompt=COLUMN"):
        compare(describe_experiment(content), tmp_path)


def test_a_method_that_is_none_of_the_experiments_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the experiment's methods: lora, lora-da"):
        compare(describe_experiment(description(root)), tmp_path, only=["pissa"])


@pytest.mark.slow
def test_the_grid_grows_for_all_methods_and_the_init_is_charged(root: Path, tmp_path: Path) -> None:
    experiment = describe_experiment(description(root, protocol={"growth": 1}, charge_init=True))
    compare(experiment, tmp_path)
    records = load_records(tmp_path / RUNS)
    rates = {
        method: {
            record.run.learning_rate for record in records if (record.run.stage, record.run.method) == ("sweep", method)
        }
        for method in experiment.methods
    }
    assert rates["lora"] == rates["lora-da"]
    assert len(rates["lora"]) >= 3  # the best of a few steps on a random model is the largest rate
    charged = [record for record in records if record.run.stage == "compute"]
    assert {record.run.charged_for for record in charged} == {"lora-da"}
    assert all(record.run.steps > 4 and record.run.method == "lora" for record in charged)


def test_mistakes_that_a_trial_finds_are_told_as_they_are(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = describe_experiment(description(root, target_modules="no_such_layer"))
    with pytest.raises(ValueError, match=r"^Target modules .*no_such_layer"):
        estimate_seconds(experiment, [], list_missing_runs(experiment, []), tmp_path)

    def broken(*_: Any, **__: Any) -> RunRecord:
        raise KeyError("paper")

    monkeypatch.setattr(module, "carry_out_run", broken)
    with pytest.raises(RuntimeError, match=r"^a trial run of two steps failed: KeyError: 'paper'"):
        estimate_seconds(experiment, [], list_missing_runs(experiment, []), tmp_path)


def test_unrelated_text_that_is_not_there_is_found_before_any_run(root: Path, tmp_path: Path) -> None:
    experiment = describe_experiment(description(root, forgetting={"data": "none.txt"}))
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        check_experiment(experiment, tmp_path)


def run_and_kill(command: list[str], seconds: float) -> bool:
    """Run a command, kill it without warning after some seconds; whether it ended by itself before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    assert process.returncode == 0
    return True


@pytest.mark.slow
def test_killed_at_random_moments(root: Path, tmp_path: Path) -> None:
    file = toml_file(tmp_path / "tiny.toml", description(root))
    start = "from lora_da_bench.cli.app import main; main()"
    command = [sys.executable, "-c", start, "compare", "--config", str(file), "--results"]
    started = time.monotonic()
    assert run_and_kill([*command, str(tmp_path / "whole")], 600)
    usual = time.monotonic() - started
    generator = random.Random(0)
    killed = 0
    while not killed:  # where the machine has become faster since, the kill came too late
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        while not run_and_kill([*command, str(tmp_path / "parts")], generator.uniform(0.4, 0.9) * usual):
            killed += 1
            usual *= 1.1  # where it has become slower, a start would never come to its first run
            assert killed < 50
        usual /= 2
    whole, parts = (load_records(tmp_path / name / "tiny" / RUNS) for name in ("whole", "parts"))
    assert [figures(record) for record in whole] == [figures(record) for record in parts]
