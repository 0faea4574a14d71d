from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import arm_differences
from lora_da_bench.laboratory.runs import LaboratoryRecord, LaboratoryRun, append_record
from lora_da_bench.laboratory.settings import RECORDS


def test_arms_of_two_folders_are_paired_by_seed_and_block(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for seed in (1, 2, 3):
        for domain in ("one", "two"):
            blocks = generator.normal(3, 1, 40)
            noise = generator.normal(0, 0.01, 40)
            write(tmp_path / "a", LaboratoryRun(seed, domain, 8, "default", False, 5e-3), blocks - 0.1 + noise)
            if seed < 3:
                write(tmp_path / "b", LaboratoryRun(seed, domain, 4, "lora", True, 5e-3), blocks)
            write(tmp_path / "b", LaboratoryRun(seed, domain, 4, "lora", True, 1e-2), blocks + 7)
    arms = f"{tmp_path / 'a'},default_frozen,8,5e-3", f"{tmp_path / 'b'},lora_trained,4,0.005"
    row = arm_differences.compare(*arms, comparisons=1)
    assert (row["domains"], row["seeds"]) == (["one", "two"], [1, 2])
    assert row["mean"] == pytest.approx(row["mean_first"] - row["mean_second"])
    assert row["low"] < -0.1 < row["high"] < 0
    assert row["by_domain"].keys() == {"one", "two"}
    with pytest.raises(SystemExit, match="no run of lora_trained at rank 8"):
        arm_differences.compare(arms[0], arms[1].replace(",4,", ",8,"), comparisons=1)


def write(folder: Path, run: LaboratoryRun, losses: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    folder.mkdir(exist_ok=True)
    append_record(folder / RECORDS, LaboratoryRecord(run, "success", 3.0, 3.0, tuple(losses.tolist()), 1.0, "code"))
