"""``lora-da train``, as a user calls it, and the trainer behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from command import call
from folders import sums_file, tiny_model_folder
from lora_da.workflows import runs, training
from lora_da.workflows.sources import DataSource, calibration_indices


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sums_file(tmp_path_factory.mktemp("data") / "sums.jsonl", count=60))


def record_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return content["record"]


def test_training_lowers_the_loss_and_writes_everything(model: str, data: str, tmp_path: Path) -> None:
    output = call(
        "train", model, "--data", data, "--output", tmp_path / "run", "--steps", 8, "--lr", "1e-2", "--seed", 1
    )
    assert "step     8" in output
    record = record_of(tmp_path / "run")
    assert record["held_out"][-1][1] < record["loss_base"] - 0.2
    assert [step for step, _ in record["training"]] == list(range(1, 9))
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    initial = load_file(tmp_path / "run" / "initial_adapter" / "adapter_model.safetensors")
    trained = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert initial.keys() == trained.keys()
    assert not any(torch.equal(initial[key], trained[key]) for key in initial)


def test_plain_lora_starts_at_the_base_model(model: str, data: str, tmp_path: Path) -> None:
    call("train", model, "--data", data, "--output", tmp_path / "run", "--steps", 1, "--init", "lora")
    record = record_of(tmp_path / "run")
    assert record["held_out"][0][1] == pytest.approx(record["loss_base"], abs=1e-6)


def test_an_adapter_folder_is_the_starting_point(model: str, data: str, tmp_path: Path) -> None:
    call(
        "init",
        model,
        "--data",
        data,
        "--output",
        tmp_path / "start",
        "--rank",
        2,
        "--examples",
        8,
        "--preset",
        "released",
    )
    call("train", model, "--data", data, "--output", tmp_path / "run", "--steps", 1, "--adapter", tmp_path / "start")
    record = record_of(tmp_path / "run")
    assert record["held_out"][0][1] != pytest.approx(record["loss_base"], abs=1e-6)
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 2


def test_a_finished_run_is_kept_unless_overwritten(model: str, data: str, tmp_path: Path) -> None:
    common = ["train", model, "--data", data, "--output", tmp_path / "run", "--steps", "1", "--init", "lora"]
    call(*common)
    with pytest.raises(FileNotFoundError, match="no run in"):
        call(*common[:5], tmp_path / "typo", "--resume")
    for extra in ([], ["--resume"]):
        with pytest.raises(FileExistsError, match="finished run"):
            call(*common, *extra)
    call(*common, "--overwrite")
    with pytest.raises(ValueError, match="which --overwrite empties"):
        call(*common[:-2], "--adapter", tmp_path / "run" / "adapter", "--overwrite")
    with pytest.raises(AssertionError, match="leave --init out"):
        call(*common, "--adapter", tmp_path / "run" / "adapter", "--overwrite")
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_overwriting_starts_from_nothing_of_the_old_run(model: str, data: str, tmp_path: Path) -> None:
    common = ["train", model, "--data", data, "--output", tmp_path / "run", "--steps", "1", "--examples", "8"]
    call(*common, "--rank", 4)
    call(*common, "--rank", 2, "--overwrite")
    for part in ("initial_adapter", "adapter"):
        assert json.loads((tmp_path / "run" / part / "adapter_config.json").read_text())["r"] == 2
    with pytest.raises(ValueError, match="give one of them"):
        call(*common, "--overwrite", "--resume")


def test_held_out_rows_are_none_that_the_adapter_was_calibrated_on(model: str, tmp_path: Path) -> None:
    data = sums_file(tmp_path / "sums.jsonl", count=30)
    call("init", model, "--data", data, "--output", tmp_path / "start", "--rank", 2, "--examples", 24)
    rows = DataSource(str(data)).rows()
    kept = runs._calibrated_on(tmp_path / "start", rows)
    assert kept == calibration_indices(30, 24, 0)
    train, held_out = runs.split_rows(rows, 100, keep=kept)
    assert (len(train), len(held_out)) == (25, 5)
    sample = {row["prompt"] for row in rows.select(kept)}
    assert not sample & set(held_out["prompt"])
    assert set(train["prompt"]) | set(held_out["prompt"]) == set(rows["prompt"])
    options = ["--data", data, "--eval-data", data, "--output", tmp_path / "run"]
    with pytest.raises(ValueError, match="held-out data are the training data"):
        call("train", model, *options)
    changed = DataSource(str(sums_file(data, count=31))).rows()  # one row more: indices say nothing any longer
    with pytest.warns(UserWarning, match="calibrated on other rows than these, or on these before they changed"):
        assert runs._calibrated_on(tmp_path / "start", changed) == []


def test_an_adapter_of_another_base_is_named(model: str, data: str, tmp_path: Path) -> None:
    other = tiny_model_folder(tmp_path / "other", seed=1)
    call("init", other, "--data", data, "--output", tmp_path / "start", "--rank", 2, "--examples", 8)
    with pytest.warns(UserWarning, match=r"was made on .*other, and is trained on"):
        call(
            "train", model, "--data", data, "--output", tmp_path / "run", "--steps", 1, "--adapter", tmp_path / "start"
        )
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model


@pytest.mark.parametrize("option", [["--steps", "-5"], ["--evaluations", "0"], ["--batch-size", "0"], ["--lr", "0"]])
def test_settings_that_make_no_sense(model: str, data: str, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        call("train", model, "--data", data, "--output", tmp_path / "run", *option)
    assert not (tmp_path / "run").exists()


class _KilledError(RuntimeError):
    pass


class _Kill(TrainerCallback):
    """Stops a run without warning after some steps, once a checkpoint is there."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise _KilledError


@pytest.mark.parametrize("init", ["lora", "lora-da"])
def test_an_interrupted_run_resumes_to_the_same_result(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str
) -> None:
    common = ["train", model, "--data", data, "--steps", "8", "--evaluations", "4", "--init", init, "--examples", "8"]
    call(*common, "--output", tmp_path / "whole")

    trainer = training.Trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            training,
            "Trainer",
            lambda **settings: trainer(**settings | {"callbacks": [*settings["callbacks"], _Kill()]}),
        )
        with pytest.raises(_KilledError):
            call(*common, "--output", tmp_path / "broken")
    with pytest.raises(FileExistsError, match="--resume"):
        call(*common, "--output", tmp_path / "broken")
    other_init = "lora" if init == "lora-da" else "lora-da"
    for changed in (["--lr", "1e-5"], ["--init", other_init], ["--max-length", "64"]):
        with pytest.raises(ValueError, match=r"was another one: its (settings|start|data) differ"):
            call(*common, *changed, "--output", tmp_path / "broken", "--resume")
    half_written = tmp_path / "broken" / "checkpoints" / "checkpoint-7"
    half_written.mkdir()
    call(*common, "--output", tmp_path / "broken", "--resume")
    whole, resumed = record_of(tmp_path / "whole"), record_of(tmp_path / "broken")
    assert [step for step, _ in resumed["held_out"]] == [0, 2, 4, 6, 8]
    for key in ("held_out", "training"):
        for first, second in zip(whole[key], resumed[key], strict=True):
            assert second == pytest.approx(first, abs=1e-5)


def test_the_seed_fixes_the_run(model: str, data: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = ["--steps", "2", "--init", "lora", "--seed", seed]
        call("train", model, "--data", data, "--output", tmp_path / name, *options)
    losses = [record_of(tmp_path / name)["held_out"] for name in "abc"]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_held_out_data_of_their_own(model: str, data: str, tmp_path: Path) -> None:
    other = sums_file(tmp_path / "other.jsonl", count=5)
    options = ["--steps", "1", "--init", "lora", "--eval-data", other]
    call("train", model, "--data", data, "--output", tmp_path / "run", *options)
    rows = json.loads((tmp_path / "run" / "training.json").read_text())["rows"]
    assert rows == {"training": 60, "held_out": 5}


def test_errors(model: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        call("train", model, "--data", data, "--output", tmp_path / "run", "--adapter", tmp_path)
    with pytest.raises(ValueError, match="lora or lora-da"):
        call("train", model, "--data", data, "--output", tmp_path / "run", "--init", "pissa")
    few = sums_file(tmp_path / "few.jsonl", count=3)
    with pytest.raises(ValueError, match="--eval-data"):
        call("train", model, "--data", few, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()
