from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

import noise_edge
from lora_da_bench.laboratory.estimators.noise import NoiseEdge


def test_layers_of_one_kind_are_summarised() -> None:
    """By hand: medians of three layers' edges, means of what lies above."""
    layers = [
        ("model.layers.0.q_proj", NoiseEdge(2.0, torch.linspace(1, 3, 21), torch.tensor([9.0, 2.5, 1.0]))),
        ("model.layers.1.q_proj", NoiseEdge(2.0, torch.linspace(2, 4, 21), torch.tensor([4.0, 2.5, 2.1]))),
        ("model.layers.2.q_proj", NoiseEdge(2.0, torch.linspace(3, 5, 21), torch.tensor([2.2, 1.9, 1.8]))),
        ("model.layers.0.o_proj", NoiseEdge(1.0, torch.linspace(0, 2, 21), torch.tensor([0.5, 0.4]))),
    ]
    q, o = noise_edge.summarise(0.5, layers)
    assert (q["damping"], q["kind"], q["formula"], q["largest"], q["directions"]) == (0.5, "q_proj", 2.0, 4.0, 3)
    assert (q["measured"], q["highest"]) == (pytest.approx(3.0), pytest.approx(3.9))
    assert (q["real_by_formula"], q["real_by_halves"]) == (pytest.approx((2 + 3 + 1) / 3), pytest.approx(2 / 3))
    assert (o["real_by_formula"], o["real_by_halves"]) == (0, 0)
    assert "| q_proj | 2.00 | 3.00 to 3.90 | 4.00 | 3 | 2.0 | 0.7 |" in noise_edge.table([q, o])


def test_a_tiny_model_is_measured(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "counted.txt").write_text("".join(f"{number:08d}" for number in range(40)))
    common = {"model": str(folder), "domains": str(tmp_path / "counted.txt"), "examples": 8, "length": 8}
    rows = noise_edge.measure(argparse.Namespace(**common, dampings="0.1,1", partitions=3, seed=0))
    assert len(rows) == 2 * 7
    formulas = [row["formula"] for row in rows if row["kind"] == "gate_proj"]
    assert formulas == pytest.approx([(32**0.5 + 48**0.5) / 8**0.5] * 2)
    assert all(0 < row["measured"] <= row["highest"] for row in rows)
