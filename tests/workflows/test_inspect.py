from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lora_da import save_statistics
from lora_da.workflows.inspect import read_report, write_page
from pipeline.test_solution import statistics


def test_statistics_are_solved_up_to_the_rank_or_the_width(tmp_path: Path) -> None:
    sums = dataclasses.replace(statistics(), population_size=100)
    save_statistics(sums, tmp_path / "s.safetensors")
    assert {row.rank for row in read_report(tmp_path / "s.safetensors", 3, "default").layers.values()} == {3}
    assert {row.rank for row in read_report(tmp_path / "s.safetensors", 64, "default").layers.values()} == {6}
    with pytest.raises(ValueError, match="hold only the diagonal"):
        read_report(tmp_path / "s.safetensors", 3, "paper")
    with pytest.raises(ValueError, match="loss_reduction='sum', the settings ask for 'mean'"):
        read_report(tmp_path / "s.safetensors", 3, "released")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no statistics file"):
        read_report(tmp_path / "none", 3, "default")


def test_only_its_own_page_is_replaced(tmp_path: Path) -> None:
    file, page = tmp_path / "s.safetensors", tmp_path / "s.html"
    save_statistics(statistics(), file)
    report = read_report(file, 3, "default")
    for _ in range(2):
        write_page(report, page, file, 8, overwrite=False)
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        write_page(report, page, file, 8, overwrite=False)
    assert page.read_text() == "mine"
    write_page(report, page, file, 8, overwrite=True)
    with pytest.raises(ValueError, match="would be lost"):
        write_page(report, file, file, 8, overwrite=True)


def test_a_training_shows_the_report_of_its_start(tmp_path: Path) -> None:
    save_statistics(statistics(), tmp_path / "s.safetensors")
    start, later = (read_report(tmp_path / "s.safetensors", rank, "default") for rank in (3, 2))
    start.save(tmp_path / "run" / "initial_adapter")
    assert {row.rank for row in read_report(tmp_path / "run", 64, "default").layers.values()} == {3}
    later.save(tmp_path / "run")
    assert {row.rank for row in read_report(tmp_path / "run", 64, "default").layers.values()} == {2}
