"""Samples of lm-eval, written by hand in its form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lora_da_bench.analysis.lm_eval_samples import compare_lm_eval, read_lm_eval_samples
from lora_da_bench.analysis.significance import estimate_difference


def samples_file(path: Path, right: list[float], filters: tuple[str, ...] = ("none",), first: int = 0) -> Path:
    lines = [
        {
            "doc_id": index,
            "doc": {"question": f"{index} + 1 ="},
            "target": str(index + 1),
            "arguments": [[f"{index} + 1 =", " 1"]],
            "resps": [["7"]],
            "filtered_resps": ["7"],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": f"hash{first + index}",
            "exact_match": value if name == filters[0] else 0.0,
        }
        for name in filters
        for index, value in enumerate(right)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    return path


def test_methods_are_compared_by_document_and_seed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    right = {name: generator.integers(0, 2, size=(2, 30)).astype(float) for name in ("lora", "lora-da")}
    files = {
        name: [samples_file(tmp_path / f"{name}-{seed}.jsonl", row.tolist()) for seed, row in enumerate(values)]
        for name, values in right.items()
    }
    found = compare_lm_eval(files, "exact_match").differences["lora-da", "lora"]
    assert found.mean == pytest.approx(right["lora-da"].mean() - right["lora"].mean())
    # In lm-eval's order of documents, however the files are sorted.
    alone = estimate_difference(right["lora-da"] - right["lora"])
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    one = samples_file(tmp_path / "one.jsonl", [1.0, 0.0], ("strict-match", "flexible-extract"))
    with pytest.raises(ValueError, match="document 1 several times: name one of its filters"):
        read_lm_eval_samples(one, "exact_match")
    assert sum(read_lm_eval_samples(one, "exact_match", "strict-match").values()) == 1.0
    with pytest.raises(ValueError, match="no samples of the filter other"):
        read_lm_eval_samples(one, "exact_match", "other")
    with pytest.raises(ValueError, match="document 1 has no acc, but exact_match"):
        read_lm_eval_samples(one, "acc", "strict-match")
    other = samples_file(tmp_path / "other.jsonl", [1.0, 0.0], first=5)
    with pytest.raises(ValueError, match="only on the same documents"):
        compare_lm_eval({"lora": [samples_file(tmp_path / "a.jsonl", [1.0, 0.0])], "x": [other]}, "exact_match")
