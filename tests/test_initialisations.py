"""Every version of the library makes the same B·A, to the last bit, as the one that recorded them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import initialisations

RECORDED = Path(__file__).with_name("recorded") / "initialisations.safetensors"
SCRIPT = str(Path(initialisations.__file__))


def made(file: Path, *launcher: str) -> dict[str, torch.Tensor]:
    done = subprocess.run([sys.executable, *launcher, SCRIPT, str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(file)


def test_one_process_and_two_search_for_the_same_step() -> None:
    recorded = load_file(RECORDED)
    steps = {name.split("/")[1]: value for name, value in recorded.items() if name.startswith("step/")}
    assert sum(bool(step.any()) for step in steps.values()) > 3
    for name, step in steps.items():
        torch.testing.assert_close(
            recorded[f"two processes, step/{name}"], step, rtol=1e-3, atol=1e-3 * float(step.abs().max())
        )


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_products_are_as_recorded(tmp_path: Path, processes: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
    found = made(tmp_path / "found.safetensors", *launcher)
    with safe_open(RECORDED, framework="pt") as file:
        alike = file.metadata() == initialisations.machine()
    recorded = load_file(RECORDED)
    wanted = {name: value for name, value in recorded.items() if name.startswith("two ") == (processes == 2)}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if alike:
            assert torch.equal(found[name], value), name
        else:  # another processor or torch adds up in another order
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))
