from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_cost.py"


@pytest.mark.slow
def test_whole_shapes_and_slices(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--shapes", "tiny", "tiny:1", "--device", "cpu", "--examples", "8"]
    command += ["--tokens", "40", "--results", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith("ratio_frozen_tiny=")
    whole, part = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert not any(name.startswith("extrapolated") for name in whole)
    assert whole["notices"] == part["notices"] == []
    assert part["extrapolated_solve_seconds"] == pytest.approx(4 * part["solve_seconds"])
    # Of each of 4 blocks: gradients, output sums; the inputs of q, k, v, of o, of gate, up, and of down.
    shapes = [(64, 64), (32, 64), (32, 64), (64, 64), (160, 64), (160, 64), (64, 160)]
    numbers = sum(d_out * d_in + d_out for d_out, d_in in shapes) + 3 * 64**2 + 160**2
    # And the gradients of half of the examples: of all 7 layers, and of every other one of 28 (q, v, gate, down).
    halves = [sum(d_out * d_in for d_out, d_in in chosen) for chosen in (shapes, 4 * shapes[::2])]
    assert [part["statistics_bytes"], whole["statistics_bytes"]] == [
        4 * (numbers + halves[0]),
        4 * (4 * numbers + halves[1]),
    ]
    assert whole["matmul_fraction"] > 0  # how much it is depends on what else the machine does
