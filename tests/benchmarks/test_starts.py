from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import starts
from lora_da import LoraDAConfig, Statistics
from lora_da_bench.laboratory.data.examples import Examples


def collected(folder: Path, seed: int) -> Statistics:
    ids = torch.randint(3, 60, (8, 12), generator=torch.Generator().manual_seed(seed))
    base = AutoModelForCausalLM.from_pretrained(folder)
    return starts.collect(base, Examples(ids, torch.ones_like(ids)), LoraDAConfig())


def test_halves_agree_as_far_as_their_gradients_do(folder: Path) -> None:
    first = collected(folder, 0)
    opposite = dataclasses.replace(first, gradient_sums={name: -G for name, G in first.gradient_sums.items()})
    doubled = dataclasses.replace(first, gradient_sums={name: 2 * G for name, G in first.gradient_sums.items()})
    config = LoraDAConfig()
    assert starts.agreement(first, doubled, config) == pytest.approx(1)
    assert starts.agreement(first, opposite, config) == pytest.approx(-1)
    assert -0.9 < starts.agreement(first, collected(folder, 1), config) < 0.9


def test_runs_and_their_means() -> None:
    asked = argparse.Namespace(question="ranks", arms=["frozen", "trained"], seeds=[1, 2], domains=["a", "b"])
    same = {"step_length": 0.5, "agreement": 0.25}
    found = [run | same | {"test_loss": run["rank"] + run["seed"]} for run in starts.runs(asked)]
    assert len(found) == 2 * 2 * 2 * 3 * 2
    rows = starts.summarise(found)
    assert len(rows) == 2 * 3 * 2
    assert rows[0] == same | {"name": "frozen_r2_64", "runs": 4, "loss": 3.5}
    assert "| trained_r8_own_64 | 4 | 9.500 | 0.500 | 0.25 |" in starts.table(rows)


def test_only_what_is_missing_is_carried_out(tmp_path: Path) -> None:
    carried_out = []

    def double(run: dict[str, int]) -> dict[str, int]:
        carried_out.append(run["seed"])
        return {"loss": 2 * run["seed"]}

    starts.carry_out_missing([{"seed": 1}], double, tmp_path / "new")
    done = starts.carry_out_missing([{"seed": 1}, {"seed": 2}], double, tmp_path / "new")
    assert done == [{"seed": 1, "loss": 2}, {"seed": 2, "loss": 4}]
    assert carried_out == [1, 2]
