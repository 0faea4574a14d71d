from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import busy
from lora_da.statistics.validity import find_fault

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "busy.py"


def test_layers_have_the_models_shapes_and_sums_that_can_be() -> None:
    made = busy.synthetic_statistics(9)
    assert [tuple(tensor.shape) for tensor in made.gradient_sums.values()] == [*busy.SHAPES, *busy.SHAPES[:2]]
    for layer in map(made.__getitem__, made.layers):
        assert find_fault(layer.gradient_sum, layer.input_sum, layer.output_sum, layer.tokens, layer.examples) is None


def test_the_last_line_can_be_read() -> None:
    command = [sys.executable, str(SCRIPT), "--layers", "2", "--repeats", "1"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = dict(pair.split("=") for pair in output.splitlines()[-1].split())
    assert figures.keys() == {"alone", "busy", "slowdown"}
    assert all(float(value) > 0 for value in figures.values())
