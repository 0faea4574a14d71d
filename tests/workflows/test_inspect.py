from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lora_da import save_statistics
from lora_da.workflows.inspect import ranks_needed, reports_of
from pipeline.test_solution import statistics
from report.test_layers import layer


def test_ranks_that_capture_a_share() -> None:
    energies = (0.2, 0.4, 0.6, 0.8)
    layers = {"h.0.q": dataclasses.replace(layer(), rank=4, captured_energy=energies)}
    assert ranks_needed(layers) == [("layers", "25%", "50%", "75%", "90%"), ("q", "2", "3", "4", "> 4")]


def test_statistics_are_solved_up_to_the_rank_or_the_width(tmp_path: Path) -> None:
    sums = dataclasses.replace(statistics(), population_size=100)
    save_statistics(sums, tmp_path / "s.safetensors")
    assert {row.rank for row in reports_of(tmp_path / "s.safetensors", 3, "default").values()} == {3}
    assert {row.rank for row in reports_of(tmp_path / "s.safetensors", 64, "default").values()} == {6}
    with pytest.raises(ValueError, match="hold only the diagonal"):
        reports_of(tmp_path / "s.safetensors", 3, "paper")
    with pytest.raises(ValueError, match="loss_reduction='sum', the settings ask for 'mean'"):
        reports_of(tmp_path / "s.safetensors", 3, "released")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no statistics file"):
        reports_of(tmp_path / "none", 3, "default")
