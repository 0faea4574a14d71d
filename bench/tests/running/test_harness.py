"""The call of lm-eval: checked on a stub, and with the real package where it is installed."""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from folders import tiny_model_folder
from lora_da.loading.models import load_model
from lora_da_bench.running import harness
from models import with_lora


def stub_lm_eval(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> dict[str, Any]:
    """Put a stub in lm-eval's place; the arguments of its calls appear in the result."""
    calls: dict[str, Any] = {}

    def simple_evaluate(**arguments: Any) -> dict[str, Any]:
        calls["simple_evaluate"] = arguments
        return found

    def wrapped(**arguments: Any) -> str:
        calls["HFLM"] = arguments
        return "wrapped"

    package, models_, huggingface = (
        types.ModuleType(name) for name in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface")
    )
    package.__spec__ = importlib.machinery.ModuleSpec("lm_eval", None, is_package=True)
    package.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    huggingface.HFLM = wrapped  # type: ignore[attr-defined]
    for module in (package, models_, huggingface):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"results": {"arc_easy": {"acc,none": 0.5}}, "versions": {"arc_easy": 1.0}, "config": {}, "samples": {}}
    calls = stub_lm_eval(monkeypatch, found)
    result = harness.run_harness("model", "tokenizer", ("arc_easy", "boolq"), 4, 10)
    assert calls == {
        "HFLM": {"pretrained": "model", "tokenizer": "tokenizer", "batch_size": 4},
        "simple_evaluate": {"model": "wrapped", "tasks": ["arc_easy", "boolq"], "batch_size": 4, "limit": 10},
    }
    assert result == {key: found[key] for key in ("results", "versions", "samples")}


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lm-eval\[hf\]'"):
        harness.run_harness(None, None, ["arc_easy"], 1, None)


def test_the_real_package_sees_the_adapter(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    loaded = load_model(str(tiny_model_folder(tmp_path / "model")), device="cpu")
    model = with_lora(loaded.model, trained=True)
    rows = [{"q": f"{a} + 1 =", "c": [f" {a + 1}", f" {a + 2}"], "l": 0} for a in range(6)]
    (tmp_path / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task: Any = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.json")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "l",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    result = harness.run_harness(model, loaded.tokenizer, [task], 4, 5)
    assert len(result["samples"]["tiny"]) == 5
    assert 0 <= result["results"]["tiny"]["acc,none"] <= 1
    for sample in result["samples"]["tiny"]:
        for (prompt, completion), ((score, _),) in zip(sample["arguments"], sample["resps"], strict=True):
            start, ids = (loaded.tokenizer(text)["input_ids"] for text in (prompt, prompt + completion))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = sum(logits[place - 1, ids[place]].item() for place in range(len(start), len(ids)))
            assert score == pytest.approx(expected, rel=1e-4)
