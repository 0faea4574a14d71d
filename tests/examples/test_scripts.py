"""Each example runs through its command line, and plain PEFT loads what it writes."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import transformers
from peft import PeftModel
from safetensors.torch import load_file

from examples import stand_ins as tiny
from lora_da import load_report

EXAMPLES = Path(__file__).parents[2] / "examples"
Make = Callable[[Path], Path]
CASES: dict[str, tuple[Make, Make, str, list[str]]] = {
    "sft": (tiny.llama, tiny.questions, "AutoModelForCausalLM", ["--freeze-a"]),
    "qlora": (tiny.llama, tiny.questions, "AutoModelForCausalLM", []),
    "dpo": (tiny.llama, tiny.preferences, "AutoModelForCausalLM", []),
    "classification": (tiny.bert, tiny.reviews, "AutoModelForSequenceClassification", []),
    "t5": (tiny.t5, tiny.summaries, "AutoModelForSeq2SeqLM", []),
    "vision": (tiny.vit, tiny.images, "AutoModelForImageClassification", []),
    "speech": (tiny.whisper, tiny.sounds, "AutoModelForSpeechSeq2Seq", ["--split", "train"]),
    "rank_from_data": (tiny.llama, tiny.questions, "AutoModelForCausalLM", ["--budget", "4"]),
    "shared_a": (tiny.llama, tiny.questions, "AutoModelForCausalLM", []),
}


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def check_adapter(folder: Path, initialised: Path, model: Path, kind: str) -> None:
    """Plain PEFT gives the weights that were saved, of the layers that the report has, and no B is zero."""
    base = getattr(transformers, kind).from_pretrained(model)
    loaded = dict(PeftModel.from_pretrained(base, folder).named_parameters())
    saved = load_file(folder / "adapter_model.safetensors")
    adapters = {name for name in saved if ".lora_" in name}
    for name in adapters:
        assert loaded[name.replace("weight", "default.weight")].equal(saved[name]), name
        assert saved[name].any(), name
    layers = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in adapters}
    report = load_report(initialised)
    assert layers == report.layers.keys()
    assert not report.kept_default


@pytest.mark.filterwarnings("default::UserWarning")  # so few and short examples make the library warn
@pytest.mark.parametrize("name", CASES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model, make_data, kind, options = CASES[name]
    model, data, output = make_model(tmp_path / "model"), make_data(tmp_path / "data"), tmp_path / "output"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    given = {"--model": model, "--dataset": data, "--output": output, "--max-steps": 1}
    run(name, [str(part) for pair in given.items() for part in pair] + options, monkeypatch)
    if name == "shared_a":
        check_adapter(output / "mean", output / "shared", model, kind)
    else:
        check_adapter(output, output, model, kind)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == CASES.keys()
