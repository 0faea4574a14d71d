from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import widths

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "widths.py"


def test_growth_is_the_exponent() -> None:
    rows = [{"width": 10, "seconds": 2.0}, {"width": 40, "seconds": 128.0}]
    assert widths.growth(rows, "seconds") == pytest.approx(3.0)


def test_tokens_have_the_spectrum_that_is_said() -> None:
    covariance = widths.tokens(16, seed=0)
    covariance = covariance.T @ covariance / len(covariance)
    wanted = 1 / torch.arange(16, 0, -1)
    torch.testing.assert_close(torch.linalg.eigvalsh(covariance), wanted, rtol=0.2, atol=0)
    assert (covariance - covariance.diag().diag()).abs().max() > 0.05  # in a basis that is not the axes'


def test_the_last_line_can_be_read() -> None:
    command = [sys.executable, str(SCRIPT), "--widths", "16", "32", "--repeats", "1"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = dict(part.split("=") for part in output.splitlines()[-1].split())
    assert figures.keys() == {"solve_growth", "sums_growth"}
    assert all(abs(float(value)) < 20 for value in figures.values())  # numbers, of exponents' size
