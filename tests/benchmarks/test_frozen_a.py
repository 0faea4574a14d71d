from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

import frozen_a


def test_what_is_counted_of_each_variant(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_DA_DATA", str(tmp_path))
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"{n} + 7?", "answer": f" {n + 7}"} for n in range(10, 20)]
    (tmp_path / "gsm8k" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    common = {"model": str(folder), "rank": 2, "steps": 2, "batch_size": 2, "dtype": "float32", "device": "cpu"}
    found: dict[str, Any] = {
        name: frozen_a.measure(argparse.Namespace(**common, measure=name, seed=0, checkpointing=False))
        for name in frozen_a.VARIANTS
    }
    ins, outs = 2 * (5 * 32 + 32 + 48), 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32)  # of q, k, v, o, gate, up and down
    assert [row["trained"] for row in found.values()] == [2 * (ins + outs), 2 * outs, 4 * outs]
    for row in found.values():
        assert row["gradient_bytes"] == 4 * row["trained"]
        assert row["optimizer_bytes"] == 8 * row["trained"] + 4 * (28 if row is found["lora_r"] else 14)  # and steps
    rows_kept = 2 * 11 * 4 * 2  # examples, tokens, bytes, blocks
    inputs = 32 + 32 + 48  # of q, k and v; of gate and up; of down
    outputs_of_a = 7 * 2
    assert found["lora_r"]["kept_bytes"] - found["frozen_r"]["kept_bytes"] == rows_kept * inputs
    assert found["frozen_2r"]["kept_bytes"] - found["frozen_r"]["kept_bytes"] == rows_kept * outputs_of_a


def test_ratios_are_taken_within_a_round() -> None:
    names = ("step_seconds", "peak_bytes", "kept_bytes")
    rounds: list[dict[str, dict[str, Any]]] = [
        {
            name: dict.fromkeys(names, factor * load)
            for name, factor in (("lora_r", 4), ("frozen_r", 2), ("frozen_2r", 3))
        }
        for load in (1, 5, 2)
    ]
    found = frozen_a.summarise(rounds)
    assert [row["step_seconds"] for row in found.values()] == [8, 4, 6]
    assert [row["peak_ratio"] for row in found.values()] == [1, 0.5, 0.75]
