from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from folders import tiny_model_folder, tokenizer_in
from lora_da_bench.laboratory.data import domains
from lora_da_bench.laboratory.data.domains import load_domain
from lora_da_bench.laboratory.data.examples import Examples

SIZES: dict[str, Any] = {"length": 8, "selection": 3, "test": 5, "needed": 10}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One token a byte."""
    return tokenizer_in(tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model"), "")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Blocks of eight bytes that all differ."""
    path = tmp_path / "counted.txt"
    path.write_text("".join(f"{number:08d}" for number in range(40)))
    return path


def rows_of(*parts: Examples) -> set[tuple[int, ...]]:
    return {tuple(row) for part in parts for row in part.input_ids.tolist()}


def test_splits_share_no_block(text: Path, tokenizer: Any) -> None:
    domain = load_domain(str(text), tokenizer, **SIZES)
    assert (len(domain.selection), len(domain.test), len(domain.pool)) == (3, 5, 32)
    assert len(rows_of(domain.selection, domain.test, domain.pool)) == 40
    assert load_domain(str(text), tokenizer, **SIZES).fingerprint == domain.fingerprint


def test_a_seed_draws_calibration_and_training_apart(text: Path, tokenizer: Any) -> None:
    domain = load_domain(str(text), tokenizer, **SIZES)
    calibration, training = domain.draw(6, 60, seed=1)
    assert len(rows_of(calibration)) == 6
    assert len(training) == 60
    assert len(rows_of(training)) == 26  # of which 26 are left, twice and then some
    assert len(rows_of(training[:26])) == 26
    assert not rows_of(calibration) & rows_of(training)
    assert torch.equal(domain.draw(6, 60, seed=1)[1].input_ids, training.input_ids)
    assert not torch.equal(domain.draw(6, 60, seed=2)[0].input_ids, calibration.input_ids)


def test_columns_of_rows_are_joined(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"What is {number}?", "answer": str(number)} for number in range(40)]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("LORA_DA_DATA", str(tmp_path))
    found = load_domain("gsm8k", tokenizer, **SIZES)
    expected = "\n\n".join(f"{row['question']}\n{row['answer']}" for row in rows)
    held = rows_of(found.pool, found.selection, found.test)
    assert held == {tuple(tokenizer(expected[at : at + 8])["input_ids"]) for at in range(0, len(expected) - 7, 8)}


def test_what_cannot_be_used_is_said(text: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="has 40 blocks of 8 tokens, and 108 are needed"):
        load_domain(str(text), tokenizer, **SIZES | {"needed": 100})
    with pytest.raises(ValueError, match="there is no domain 'gsm9k'"):
        load_domain("gsm9k", tokenizer, **SIZES)
    monkeypatch.setenv("LORA_DA_DATA", str(text.parent))
    with pytest.raises(ValueError, match="give --model"):
        domains.find_model(["gsm8k"])
    assert domains.find_model(["sst2", "gsm8k-steps"]) == "minilm"
    with pytest.raises(ValueError, match="sst2, gsm8k: text and classes, or several numbers of classes"):
        domains.count_classes(["sst2", "gsm8k"])
    monkeypatch.delenv("LORA_DA_DATA")
    with pytest.raises(ValueError, match="LORA_DA_DATA is not set"):
        load_domain("gsm8k", tokenizer, **SIZES)
