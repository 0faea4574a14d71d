"""The notebook holds the code of its script, and runs."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import datasets
import pytest
from safetensors.torch import load_file

from examples import stand_ins as tiny
from lora_da import load_report

EXAMPLES = Path(__file__).parents[2] / "examples"


def code_cells() -> list[str]:
    cells = json.loads((EXAMPLES / "sft.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    return ["".join(cell["source"]) for cell in code]


def test_the_notebook_holds_what_the_script_does() -> None:
    script = (EXAMPLES / "sft.py").read_text(encoding="utf-8")
    trained = textwrap.dedent(script.split("[start:train]\n")[1].rsplit("    # --8<--", 1)[0])
    assert "\n".join(code_cells()[1:]) == trained.strip("\n")


@pytest.mark.filterwarnings("default::UserWarning")  # so few and short examples make the library warn
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    settings, *cells = code_cells()
    namespace: dict[str, Any] = {}
    exec(settings, namespace)
    namespace |= {"model": str(tiny.llama(tmp_path / "model")), "dataset": str(tiny.questions(tmp_path / "data"))}
    namespace |= {"output": str(tmp_path / "output"), "max_steps": 1}
    for cell in cells:
        exec(cell, namespace)
    weights = load_file(tmp_path / "output" / "adapter_model.safetensors")
    assert len(weights) == 2 * len(load_report(tmp_path / "output").layers)
    assert all(weight.any() for weight in weights.values())
