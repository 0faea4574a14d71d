"""``lora-da compare``, as a user calls it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lora_da_bench import compare as module
from lora_da_bench.cli.app import app
from lora_da_bench.experiment.description import Experiment, describe_experiment
from lora_da_bench.experiment.record import Run, RunRecord, load_records
from lora_da_bench.experiment.validation import Section, section_of
from lora_da_bench.running.training_run import carry_out_run
from small import described, toml_file


def call(*arguments: object) -> str:
    """Run a command; its output, or the exception it ended with."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    toml_file(folder / "tiny.toml", described(folder))
    return folder


def test_from_plan_to_report(root: Path, tmp_path: Path) -> None:
    command: list[object] = ["compare", "--config", root / "tiny.toml", "--results", tmp_path]
    dry = call(*command, "--dry-run")
    assert "0 runs are there, 2 are next" in dry
    assert re.search(r"roughly \d+ seconds? .*by two steps of plain LoRA", dry)
    stages = [
        "loading the model",
        "tokenising the data",
        "loss on 8 validation rows",
        "training for 2 steps",
        "roughly",
    ]
    assert re.findall("|".join(stages), dry) == stages
    assert "once the first is finished" in call(*command, "--dry-run", "--ray")
    assert "later, as the results of these decide: the final runs (2 at each rank)" in dry
    assert not (tmp_path / "tiny" / "runs").exists()
    listed = call(*command, "--list")
    assert "later, as the results of these decide: the final runs (2 at each rank)" in listed
    header, row = (line for line in listed.splitlines() if "status" in line or "sweep-lora-r2" in line)
    assert row.index("to do") == header.index("status")  # on the left
    output = call(*command)
    assert "report.md" in output
    verdict = next(line for line in output.splitlines() if line.startswith("Rank 2, test loss:"))
    assert re.search(r"lora-one +2 +test loss +not shown", output)
    assert len(load_records(tmp_path / "tiny" / "runs")) == 4
    listed = call(*command, "--list")
    assert listed.count("success") == 4
    assert "later" not in listed

    report = tmp_path / "tiny" / "report.md"
    kept = report.read_text() + "A note of the reader's.\n"
    report.write_text(kept)
    output = call(*command)
    assert "4 runs are there, 0 are next" in output
    assert "no run was missing, so" in output
    assert report.read_text() == kept
    report.unlink()
    assert verdict in call(*command, "--report-only").splitlines()
    assert "lora-one" in report.read_text()


def test_flags_describe_the_common_case(root: Path, tmp_path: Path) -> None:
    listed = call(
        "compare", "--model", root / "model", "--train", root / "train.jsonl", "--test", root / "test.jsonl",
        "--methods", "pissa", "--ranks", 2, "--results", tmp_path, "--list",
    )  # fmt: skip
    assert listed.count("sweep-lora-r2") == listed.count("sweep-pissa-r2") == 5 * 3


def test_methods_are_listed() -> None:
    listed = call("compare", "--list")
    assert "lora-da" in listed
    assert "lora-ga-peft" in listed
    assert "+frozen-a" in listed


def texts(section: type[Section]) -> Iterator[str]:
    for field in section.model_fields.values():
        inner = section_of(field.annotation)
        yield from [field.description or ""] if inner is None else texts(inner)


@pytest.mark.parametrize("text", texts(Experiment))
def test_help_of_a_flag_stands_alone(text: str) -> None:
    assert not re.search(r"^(or|of|at|for|each|rows|the same)\b|\b(above|below)\b", text)
    shown = re.sub(r"[│\s]+", " ", call("compare", "--help"))
    plain = text.replace("`", "")
    assert f" {plain[0].upper()}{plain[1:]}. " in shown  # nothing is taken for markup


def refusal(*arguments: str | Path) -> str:
    """What a wrong use is answered, on one line without the frame around it."""
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert result.exit_code == 2
    return re.sub(r"[│╭╰─╮╯\s]+", " ", result.output)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiments that would have been carried out."""
    found: list[Experiment] = []
    monkeypatch.setattr("lora_da_bench.cli.compare._work", lambda experiment, *_, **__: found.append(experiment))
    return found


def test_flags_say_what_a_file_says(worked: list[Experiment]) -> None:
    base: dict[str, Any] = {
        "name": "comparison",
        "model": {"name": "smollm2"},
        "task": {"kind": "generation", "train": "a.jsonl", "test": "b.jsonl"},
        "methods": ["lora", "lora-da"],
    }
    few = ["--model", "smollm2", "--train", "a.jsonl", "--test", "b.jsonl", "--methods", "lora-da"]
    call("compare", *few)
    more = [
        *few,
        "--name",
        "more",
        "--task",
        "choice",
        "--calibration-batch-size",
        "3",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--ranks",
        "4",
        "--forgetting",
        "t.txt",
    ]
    more += ["--option", "prompt=title", "--option", "max_length=64", "--no-accuracy", "--no-rslora"]
    more += ["--validation-rows", "50", "--seeds", "3,4", "--learning-rates", "1e-4,0.003", "--steps", "7"]
    call("compare", *more, "--batch-size", "2")
    options = {"prompt": "title", "max_length": 64}
    task = {"kind": "choice", "options": options, "validation_rows": 50, "accuracy": False}
    other = {
        "name": "more",
        "model": {"name": "smollm2", "device": "cpu", "dtype": "float32"},
        "task": base["task"] | task,
        "ranks": [4],
        "rslora": False,
        "calibration": {"batch_size": 3},
        "forgetting": {"data": "t.txt"},
        "protocol": {"seeds": [3, 4], "learning_rates": [1e-4, 3e-3], "steps": 7, "batch_size": 2},
    }
    assert worked == [describe_experiment(base), describe_experiment(base | other)]


@pytest.mark.parametrize(
    "flags",
    [
        ("--steps", "100"),
        ("--device", "cpu"),
        ("--option", "prompt=question"),
        ("--accuracy",),
        ("--model", "smollm2"),
        ("--seeds", "0,1,2"),
    ],
)
def test_flags_beside_a_file_are_refused(root: Path, worked: list[Experiment], flags: tuple[str, ...]) -> None:
    answer = refusal("--config", root / "tiny.toml", *flags)
    assert f"so {flags[0]} can't be given with it" in answer
    assert worked == []
    call("compare", "--config", root / "tiny.toml", "--results", root, "--only", "lora")
    assert len(worked) == 1


def test_wrong_use_is_told(root: Path) -> None:
    assert "give --model" in refusal()
    assert "give --train" in refusal("--model", "smollm2", "--test", "b.jsonl")
    assert "give --test" in refusal("--model", "smollm2", "--train", "a.jsonl")
    data = ["--model", "smollm2", "--train", "a.jsonl", "--test", "b.jsonl"]
    assert "--seeds must be numbers separated by commas, not '0-2'" in refusal(*data, "--seeds", "0-2")
    assert "--learning-rates must be numbers separated by commas" in refusal(*data, "--learning-rates", "1e-4 1e-3")
    with pytest.raises(ValueError, match="must be NAME=VALUE, such as prompt=question"):
        call("compare", *data, "--option", "prompt")
    with pytest.raises(ValueError, match=r"task\.options\.question is unknown; there are prompt, completion"):
        call("compare", *_files(root), "--option", "question=prompt")
    with pytest.raises(ValueError, match=r"task\.kind should be 'generation', 'choice'"):
        call("compare", *data, "--task", "text")
    with pytest.raises((ValueError, AssertionError), match="none of the experiment's methods"):
        call("compare", "--config", root / "tiny.toml", "--only", "pissa")


def _files(root: Path) -> list[str]:
    return ["--model", str(root / "model"), "--train", str(root / "train.jsonl"), "--test", str(root / "test.jsonl")]


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """As in a terminal: a shell's background jobs ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_gone_on_with(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(run: Run, *rest: Any, **options: Any) -> RunRecord:
        if run.stage == "final":
            os.kill(os.getpid(), number)
            time.sleep(5)  # does not last so long
        return carry_out_run(run, *rest, **options)

    command = ["compare", "--config", str(root / "tiny.toml"), "--results", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr(module, "carry_out_run", interrupted)
        result = CliRunner().invoke(app, command)
    assert result.exit_code == code
    assert "finished runs are kept, and the same command goes on" in result.output
    assert signal.getsignal(signal.SIGTERM) == before
    assert {record.run.stage for record in load_records(tmp_path / "tiny" / "runs")} == {"sweep"}
    assert "2 runs are there, 2 are next" in call(*command)
    assert len(load_records(tmp_path / "tiny" / "runs")) == 4
