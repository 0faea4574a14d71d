from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import scarce
from lora_da_bench.laboratory.data.domains import Domain
from lora_da_bench.laboratory.data.examples import Examples


def curve(*points: tuple[float, float, float]) -> list[dict[str, Any]]:
    return [
        {"step": 15 * index, "selection": selection, "test": test, "forgotten": forgotten}
        for index, (selection, test, forgotten) in enumerate(points)
    ]


def test_what_is_forgotten_is_told_at_equal_loss() -> None:
    falling = curve((3.0, 3.1, 0.0), (2.0, 2.1, 0.2), (1.0, 1.1, 0.6), (1.5, 1.6, 0.9))
    assert scarce.forgotten_at(falling, 4.0) == 0.0
    assert scarce.forgotten_at(falling, 2.5) == pytest.approx(0.1)
    assert scarce.forgotten_at(falling, 1.25) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="never"):
        scarce.forgotten_at(falling, 0.5)


def test_means_are_of_what_all_arms_have() -> None:
    done = [
        {"seed": seed, "domain": "a", "size": 64, "method": method, "train_a": train_a}
        | {"curve": curve((3.0, 3.1, 0.0), (1.0 + 0.5 * (number == 0), 1.2, 0.4 + 0.1 * seed), (2.0, 2.2, 0.8))}
        for seed in (1, 2, 3)
        for number, (method, train_a) in enumerate(scarce.ARMS)
        if seed < 3 or number == 0
    ]
    first, *others = scarce.summarise(done)
    assert first == {
        "name": "lora_trained_64",
        "runs": 2,
        "best": pytest.approx(1.2),
        "step": 15,
        "end": pytest.approx(2.2),
        "forgotten": pytest.approx(0.55),  # at 1.5, as low as the first arm gets
        "forgotten at the best": pytest.approx(0.55),
    }
    assert [row["forgotten"] for row in others] == pytest.approx([0.55 * 1.5 / 2] * 4)
    assert scarce.table([first]).splitlines()[-1] == "| lora_trained_64 | 2 | 1.200 | 15 | 2.200 | 0.550 | 0.550 |"


def test_a_run_is_measured_on_the_way(folder: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(folder)
    base.config.bos_token_id = 1
    own = scarce.write_blocks(base, 12)
    assert own.input_ids.shape == (scarce.OWN_BLOCKS, 12)
    ids = torch.randint(3, 60, (20, 12), generator=torch.Generator().manual_seed(0))
    blocks = Examples(ids, torch.ones_like(ids))
    domain = Domain("random", blocks[:16], blocks[16:18], blocks[18:], "")
    run = {"seed": 1, "domain": "random", "size": 8, "train_a": False}
    for method in ("lora", "random", "default"):
        points = scarce.carry_out(base, domain, own, run | {"method": method}, 30)
        assert [point["step"] for point in points] == [0, 15, 30]
        assert points[-1]["forgotten"] != points[0]["forgotten"]
        assert (points[0]["forgotten"] == pytest.approx(0, abs=1e-6)) == (method != "default")
