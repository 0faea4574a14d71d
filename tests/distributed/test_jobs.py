"""Whole jobs of several processes on a trained model: the same adapter as from one process, and no process hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command import call
from folders import sums_file, tiny_model_folder
from lora_da import load_statistics
from models import trained_llama

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("worker.py")
TRAINER_WORKER = Path(__file__).with_name("trainer_worker.py")
EXAMPLES = 11


# What ends well shares a job, since starting one takes longer than all that it does.
WELL = {
    1: ("plain:2",),
    2: ("plain:2", "plain:11", "sharded:2", "wrapped:2", "parts:2", "sharded parts:2", "divided:2"),
    3: ("plain:2", "plain:5"),
}


def job(folder: Path, processes: int, *cases: str) -> subprocess.CompletedProcess[str]:
    trained_llama()  # or skip
    return launched(folder, processes, WORKER, str(EXAMPLES), *cases)


def launched(folder: Path, processes: int, worker: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, str(worker), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def finished(folder: Path, processes: int, *cases: str) -> Path:
    done = job(folder, processes, *cases)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@cache
def well(root: Path, processes: int) -> Path:
    return finished(root / str(processes), processes, *WELL[processes])


def found(root: Path, processes: int, case: str) -> dict[str, torch.Tensor]:
    """What each process of a job that ends well found, which is the same."""
    return found_by_all(well(root, processes) / case, processes)


def found_by_all(folder: Path, processes: int) -> dict[str, torch.Tensor]:
    first, *others = (load_file(folder / f"{rank}.safetensors") for rank in range(processes))
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())
    return first


def alone(root: Path) -> dict[str, torch.Tensor]:
    return found(root, 1, "plain:2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


def update(adapter: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return adapter[name.replace("lora_A", "lora_B")].double() @ adapter[name].double()


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert int(actual["examples"]) == EXAMPLES
    for name, value in expected.items():
        if "/" in name or name.startswith("loss"):
            torch.testing.assert_close(actual[name], value, rtol=1e-5, atol=1e-5 * float(value.abs().max()))
        elif "lora_A" in name:
            difference = update(actual, name) - update(expected, name)
            assert float(difference.norm() / update(expected, name).norm()) < 1e-5, name


# Batches of 2 and of 5 share out unevenly; of 11 all examples are one process's.
@pytest.mark.parametrize(("processes", "case"), [(2, "plain:2"), (3, "plain:2"), (3, "plain:5"), (2, "plain:11")])
def test_any_number_of_processes_gives_the_same(root: Path, processes: int, case: str) -> None:
    assert_same(found(root, processes, case), alone(root))


def test_a_trainer_of_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    """Each takes whole batches of one sample in turn; accelerate divides the training's own."""
    pytest.importorskip("trl")
    model = str(tiny_model_folder(tmp_path / "model"))
    results = []
    for processes, batch_size in ((1, 4), (2, 4), (2, 3)):
        folder = tmp_path / f"{processes} of {batch_size}"
        done = launched(folder, processes, TRAINER_WORKER, model, str(EXAMPLES), str(batch_size))
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(found_by_all(folder, processes))
        assert results[-1].pop("moved")
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


def test_under_fsdp(root: Path) -> None:
    sharded = found(root, 2, "sharded:2")
    assert 0 < sharded.pop("gathered") <= sharded.pop("gathered by plain passes")
    assert_same(sharded, alone(root))


def test_under_ddp(root: Path) -> None:
    assert_same(found(root, 2, "wrapped:2"), alone(root))


@pytest.mark.parametrize("mode", ["partitioned", "partitioned parts"])
def test_under_deepspeed_zero_3(root: Path, tmp_path: Path, mode: str) -> None:
    pytest.importorskip("deepspeed")
    case = f"{mode}:2"
    parted, wanted = found_by_all(finished(tmp_path / "job", 2, case) / case, 2), alone(root)
    assert bool(parted["passes"]) == (mode == "partitioned parts")
    # DeepSpeed gives each layer an alias of its input, so that none share a sum.
    assert_same({name: value for name, value in parted.items() if name in wanted}, wanted)


def test_zero_3_trains_from_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    case = "partitioned bf16:2"
    written = found_by_all(finished(tmp_path / "job", 2, case) / case, 2)
    assert any(value.any() for name, value in written.items() if "lora_B" in name)
    assert written["kept"]


@pytest.mark.parametrize("mode", ["parts", "sharded parts"])
def test_several_passes(root: Path, mode: str) -> None:
    several = found(root, 2, f"{mode}:2")
    assert several["passes"]
    assert not alone(root)["passes"]
    assert_same(several, alone(root))


def test_a_killed_job_goes_on_from_its_checkpoint(root: Path, tmp_path: Path) -> None:
    killed = job(tmp_path / "killed", 3, "interrupted:2")
    assert killed.returncode != 0
    assert not list((tmp_path / "killed").iterdir())
    files = (tmp_path / "partial").glob("*.safetensors")
    partial = [load_statistics(file, label=file.stem).examples for file in files]
    assert partial.count(2) >= 1  # one batch of the process that was killed
    resumed = finished(tmp_path / "resumed", 3, "resumed:2")
    assert_same(found_by_all(resumed / "resumed:2", 3), alone(root))


def test_a_loader_that_is_divided_is_not_divided_again(root: Path) -> None:
    # The sampler drops the last of 11 examples, and every other one is counted once.
    assert int(found(root, 2, "divided:2")["examples"]) == EXAMPLES - 1


def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    trained_llama()  # or skip
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    # Not by torchrun, which would end the others itself.
    world = {"WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path), str(EXAMPLES), "killed:2"],
            env=os.environ | world | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    errors = [process.communicate(timeout=200)[1] for process in started]
    assert started[1].returncode == -signal.SIGKILL
    for rank in (0, 2):
        assert started[rank].returncode == 1
        assert "another process of the job died" in errors[rank]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_error_in_one_process_is_told_by_all(tmp_path: Path) -> None:
    done = job(tmp_path / "job", 2, "failing:2")
    assert done.returncode != 0
    assert "no label token" in done.stderr
    assert "while collecting statistics, process 1: ValueError" in done.stderr


def test_an_error_in_one_process_is_not_lost_where_they_share_the_weights(tmp_path: Path) -> None:
    done = job(tmp_path / "job", 2, "sharded failing:2")
    assert done.returncode != 0
    assert "no label token" in done.stderr
    assert not list((tmp_path / "job").iterdir())


def test_the_command_in_a_job_of_two(tmp_path: Path) -> None:
    model, data = tiny_model_folder(tmp_path / "model"), sums_file(tmp_path / "sums.jsonl", 40)
    options = ["init", str(model), "--data", str(data), "--rank", "2", "--examples", "10", "--batch-size", "2"]
    options += ["--device", "cpu"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "lora_da", *options, "--output", str(tmp_path / "job")]
    done = subprocess.run(
        [*command, "--save-statistics", str(tmp_path / "sums")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written:") == 1
    call(*options, "--output", tmp_path / "alone")
    together, alone = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("job", "alone"))
    for name in alone:
        if "lora_A" in name:
            torch.testing.assert_close(update(together, name), update(alone, name), rtol=1e-3, atol=1e-6)
    assert load_statistics(tmp_path / "sums").examples == 10


def test_fine_tuning_in_a_job_of_two(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    model, data = tiny_model_folder(tmp_path / "model"), sums_file(tmp_path / "sums.jsonl", 40)
    options = ["sft", "--model_name_or_path", str(model), "--dataset_name", str(data), "--lora_r", "2"]
    options += ["--lora_da_examples", "10", "--max_steps", "2", "--per_device_train_batch_size", "2"]
    options += ["--eval_strategy", "steps", "--test_split_size", "0.2", "--use_cpu", "--bf16", "false"]
    options += ["--report_to", "none", "--save_strategy", "no"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [*launcher, "-m", "lora_da", *options, "--output_dir", str(tmp_path / "job")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written:") == done.stdout.count("initialised from 10 examples") == 1
    call(*options, "--output_dir", tmp_path / "alone")
    starts = [load_file(tmp_path / name / "initial_adapter" / "adapter_model.safetensors") for name in ("job", "alone")]
    for name in starts[0]:
        if "lora_A" in name:
            torch.testing.assert_close(update(starts[0], name), update(starts[1], name), rtol=1e-3, atol=1e-6)
    assert (tmp_path / "job" / "adapter_config.json").is_file()
