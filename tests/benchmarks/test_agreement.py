from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import agreement as module
from lora_da import LoraDAConfig, collect_statistics
from models import batches_of, causal_examples, tiny_llama

agreement: Any = module  # of which the tests give stand-ins for solutions


@dataclasses.dataclass
class Init:
    A: torch.Tensor
    delta_A: torch.Tensor


def test_angles_and_updates_by_hand() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    half = torch.stack([axes[0], (axes[1] + axes[2]) / 2**0.5])
    one = {"layer": Init(axes[:2], axes[:, :2])}
    other = {"layer": Init(half, 3 * axes[:, :2])}
    found = agreement.subspace_agreement(one, other)
    assert found["overlap"] == pytest.approx(0.75)
    assert found["largest_angle"] == pytest.approx(torch.pi / 4)
    assert found["smallest_angle"] == pytest.approx(0.0, abs=1e-7)
    # e₁e₁ᵀ + e₂e₂ᵀ against 3 e₁e₁ᵀ + 3 e₂(e₂ + e₃)ᵀ/√2
    assert agreement.update_agreement(one, other) == pytest.approx({"cosine": (1 + 0.5**0.5) / 2, "norm_ratio": 3.0})
    apart = {"layer": Init(axes[2:], axes[:, 2:])}
    assert agreement.subspace_agreement(one, apart)["overlap"] == 0


def test_the_same_statistics_agree_and_others_less() -> None:
    model, examples = tiny_llama(), causal_examples(16)
    config = LoraDAConfig().collection
    one, other = (
        dataclasses.replace(collect_statistics(model, batches_of(part, 4), config, progress=False), population_size=100)
        for part in (examples[:8], examples[8:])
    )
    assert agreement.sums_agreement(one, one) == pytest.approx({"gradient_cosine": 1, "input_factor_difference": 0})
    found = agreement.sums_agreement(one, other)
    assert found["gradient_cosine"] < 0.99
    assert found["input_factor_difference"] > 0.01
    first, second = agreement.solved(one, 4), agreement.solved(other, 4)
    assert agreement.subspace_agreement(first, first)["overlap"] == pytest.approx(1)
    assert agreement.subspace_agreement(first, second)["overlap"] < 0.99
