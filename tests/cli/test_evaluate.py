"""``lora-da evaluate``, as a user calls it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import stats

from command import call
from folders import sums_file, tiny_model_folder
from lora_da.experiments import evaluating
from lora_da.experiments.evaluation import ItemLosses
from lora_da.experiments.models import load_model
from lora_da.experiments.rows import fingerprint, load_rows
from lora_da.experiments.tasks.generation import Generation

WORDS = ["good", "bad", "fine", "dull", "great", "poor", "nice", "sad", "lovely", "awful"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("model")))


def _adapter(model: str, folder: Path, head: str = "language model") -> Path:
    """An adapter with random B and, of a classifier, a random head."""
    loaded = load_model(model, head=head, num_labels=2 if head == "classifier" else None, device="cpu")
    task_type = "SEQ_CLS" if head == "classifier" else "CAUSAL_LM"
    adapted = get_peft_model(loaded.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type=task_type))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or (parameter.requires_grad and "score" in name):
            torch.nn.init.normal_(parameter.data, generator=generator)
    adapted.peft_config["default"].base_model_name_or_path = model
    adapted.save_pretrained(folder)
    return folder


def _words_file(path: Path) -> Path:
    path.write_text("sentence\tlabel\n" + "".join(f"{word}\t{(i + 1) % 2}\n" for i, word in enumerate(WORDS)))
    return path


def _choices_file(path: Path) -> Path:
    rows = [
        {
            "instruction": f"Is {word} true? Answer format: true/false",
            "output": "the correct answer is true",
            "answer": "true",
        }
        for word in WORDS
    ]
    path.write_text(json.dumps(rows))
    return path


def _written(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(path.read_text(encoding="utf-8")), [json.loads(line) for line in lines]


def test_generation(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{a} + 1?", "completion": f"#### {a + 1}"} for a in range(8)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = iter(["#### 1", "#### 2", "#### 3", "none", "####", "5"])
    monkeypatch.setattr(
        "lora_da.experiments.tasks.generation.generate", lambda *_, **__: [next(written) for _ in range(6)]
    )
    options = ["--task", "generation", "--data", data, "--limit", 6, "--batch-size", 2, "--dtype", "bfloat16"]
    printed = call("evaluate", model, *map(str, options), "--output", tmp_path / "out" / "sums.json")
    assert "0.5000" in printed
    (loss,) = (line for line in printed.splitlines() if line.strip().startswith("loss"))
    assert re.search(r"\d\.\d{3} to \d+\.\d{3}$", loss.strip())
    assert "written:" in printed
    content, lines = _written(tmp_path / "out" / "sums.json")
    figures = content["figures"]
    assert (figures["accuracy"], figures["correct"], figures["answers"], figures["examples"]) == (0.5, 3, 6, 6)
    # Wilson's interval of 3 out of 6 by hand.
    z, n, p = 1.959964, 6, 0.5
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert figures["intervals"]["accuracy"] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-6)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["intervals"]["perplexity"] == pytest.approx([math.exp(x) for x in figures["intervals"]["loss"]])
    assert content["data"]["fingerprint"] == fingerprint(load_rows(str(data)).select(range(6)))
    settings = content["settings"]
    assert (settings["dtype"], settings["batch_size"], settings["limit"]) == ("bfloat16", 2, 6)
    assert settings["task"]["max_new_tokens"] == Generation().max_new_tokens
    assert "torch" in content["versions"]
    assert [line["output"] for line in lines] == ["#### 1", "#### 2", "#### 3", "none", "####", "5"]
    assert figures["loss"] == pytest.approx(sum(line["loss"] for line in lines) / sum(line["labels"] for line in lines))


@pytest.mark.parametrize("batch_size", [3, 8])
def test_the_batch_size_changes_no_score(model: str, tmp_path: Path, batch_size: int) -> None:
    adapter = _adapter(model, tmp_path / "adapter")
    common = [model, "--adapter", adapter, "--task", "choice", "--data", _choices_file(tmp_path / "choices.json")]
    found = []
    for size in (1, batch_size):
        call("evaluate", *common, "--batch-size", str(size), "--output", tmp_path / f"{size}.json")
        found.append(_written(tmp_path / f"{size}.json"))
    (first, lines), (second, other_lines) = found
    assert second["figures"]["loss"] == pytest.approx(first["figures"]["loss"], rel=1e-5)
    assert second["figures"]["accuracy"] == first["figures"]["accuracy"]
    assert [line["predicted"] for line in other_lines] == [line["predicted"] for line in lines]


def test_the_interval_of_a_loss() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(5, 60, size=400)
    losses = labels * (1 + 0.4 * generator.normal(size=400)) + generator.normal(size=400)
    interval = evaluating._loss_interval(ItemLosses(losses.tolist(), labels.tolist()))
    drawn = generator.integers(0, 400, size=(20000, 400))
    means = losses[drawn].sum(1) / labels[drawn].sum(1)  # a bootstrap of the ratio of sums
    assert interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.003)
    assert np.diff(interval)[0] > 0.05
    same = evaluating._loss_interval(ItemLosses([2.0, 5.0, 5.0], [2, 2, 2]))
    assert same == pytest.approx(stats.ttest_1samp([1.0, 2.5, 2.5], 0).confidence_interval(0.95))
    assert evaluating._loss_interval(ItemLosses([2.0], [2])) is None
    assert evaluating._loss_interval(ItemLosses([2.0, math.inf], [2, 2])) is None


def test_no_column_of_intervals_where_there_are_none(model: str, tmp_path: Path) -> None:
    data = sums_file(tmp_path / "sums.jsonl", count=3)
    common = ["evaluate", model, "--task", "text", "--data", data, "--text-column", "prompt"]
    assert "95 % interval" in call(*common, "--output", tmp_path / "some.json")
    assert "95 % interval" not in call(*common, "--limit", "1", "--output", tmp_path / "one.json")


def test_an_adapter_changes_the_loss(model: str, tmp_path: Path) -> None:
    data = sums_file(tmp_path / "sums.jsonl", count=6)
    common = [model, "--task", "text", "--data", data, "--text-column", "prompt"]
    call("evaluate", *common, "--output", tmp_path / "base.json")
    call("evaluate", *common, "--adapter", _adapter(model, tmp_path / "adapter"), "--output", tmp_path / "adapted.json")
    losses = [_written(tmp_path / f"{name}.json")[0]["figures"]["loss"] for name in ("base", "adapted")]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_blocks_of_a_text(model: str, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("0123456789" * 10)
    options = ["--task", "text", "--max-length", "16", "--limit", "3"]
    call("evaluate", model, "--data", tmp_path / "book.txt", *options, "--output", tmp_path / "book.json")
    content, lines = _written(tmp_path / "book.json")
    assert [line["labels"] for line in lines] == [15, 15, 15]
    assert content["figures"]["labels"] == 45
    assert "accuracy" not in content["figures"]


def test_a_classifier_is_its_adapter_with_a_saved_head(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "_RESAMPLES", 80)
    data = _words_file(tmp_path / "words.tsv")
    common = ["evaluate", model, "--task", "classification", "--data", data, "--output", tmp_path / "out.json"]
    with pytest.raises(ValueError, match=r"lacks score\.weight, and no adapter brings them"):
        call(*common)
    with pytest.raises(ValueError, match=r"lacks score\.weight"):
        call(*common, "--adapter", _adapter(model, tmp_path / "headless"))
    adapter = _adapter(model, tmp_path / "adapter", "classifier")
    with pytest.raises(ValueError, match=f"the adapter {adapter}, made on {model}, does not fit"):
        call(*common, "--adapter", adapter, "--classes", "0,1,2")
    call(*common, "--adapter", adapter)
    content, lines = _written(tmp_path / "out.json")
    figures = content["figures"]
    assert len(lines) == 10
    assert figures["accuracy"] == sum(line["correct"] for line in lines) / 10
    assert {"f1", "matthews"} <= figures.keys()
    for name in ("accuracy", "f1", "matthews"):
        low, high = figures["intervals"][name]
        assert -1 <= low <= figures[name] <= high <= 1
    assert "perplexity" not in figures


def test_a_base_that_is_another_is_named(model: str, tmp_path: Path) -> None:
    other = tiny_model_folder(tmp_path / "other", seed=1)
    options = ["--task", "text", "--data", sums_file(tmp_path / "sums.jsonl"), "--text-column", "prompt"]
    with pytest.warns(UserWarning, match="see that both are the same"):
        call(
            "evaluate", other, *options, "--adapter", _adapter(model, tmp_path / "a"), "--output", tmp_path / "out.json"
        )


def test_numbers_that_json_lacks(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    loaded = load_model(str(folder), device="cpu")
    torch.nn.init.constant_(loaded.model.lm_head.weight, math.nan)
    loaded.model.save_pretrained(folder)
    call(
        "evaluate",
        folder,
        "--task",
        "choice",
        "--data",
        _choices_file(tmp_path / "c.json"),
        "--output",
        tmp_path / "o.json",
    )
    content, lines = _written(tmp_path / "o.json")
    assert content["figures"]["loss"] is None
    assert content["figures"]["accuracy"] == 0
    assert lines[0]["output"][0]["score"] is None


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(evaluating, "load_rows", fail)


@pytest.mark.usefixtures("no_work")
def test_refused_before_any_work(model: str, tmp_path: Path) -> None:
    text = ["--task", "text", "--data", "none.txt"]
    (tmp_path / "there.jsonl").write_text("precious")
    with pytest.raises(FileExistsError, match=r"there\.jsonl exists already"):
        call("evaluate", model, *text, "--output", tmp_path / "there.json")
    assert (tmp_path / "there.jsonl").read_text() == "precious"
    out = ["--output", tmp_path / "out.json"]
    with pytest.raises(ValueError, match=r"must end in \.json"):
        call("evaluate", model, *text, "--output", tmp_path / "out.jsonl")
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json"):
        call("evaluate", model, *text, *out, "--adapter", tmp_path)
    with pytest.raises(ValueError, match="must be at least 1, not 0 and None"):
        call("evaluate", model, *text, *out, "--batch-size", "0")
    with pytest.raises(ValueError, match="no option 'label'; there are text, max_length"):
        call("evaluate", model, *text, *out, "--label-column", "x")
    with pytest.raises(ValueError, match="nothing to measure"):
        call("evaluate", model, *out)
    with pytest.raises(AssertionError, match="go together"):
        call("evaluate", model, *out, "--task", "text")


def test_overwriting(model: str, tmp_path: Path) -> None:
    data = sums_file(tmp_path / "sums.jsonl", count=6)
    common = ["evaluate", model, "--task", "text", "--data", data, "--text-column", "prompt"]
    call(*common, "--output", tmp_path / "out.json")
    with pytest.raises(FileExistsError):
        call(*common, "--output", tmp_path / "out.json")
    call(*common, "--output", tmp_path / "out.json", "--limit", "2", "--overwrite")
    assert len(_written(tmp_path / "out.json")[1]) == 2


def test_lm_eval(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed over; tests/experiments/test_harness.py runs the package itself."""
    monkeypatch.setattr("lora_da.experiments.harness.importlib.util.find_spec", lambda name: None)
    options = ["--lm-eval", "arc_easy,boolq", "--output", tmp_path / "out.json"]
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lm-eval\[hf\]'"):
        call("evaluate", model, *options)

    calls = []

    def run(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return {"results": {"boolq": {"alias": "boolq", "acc,none": 0.25}}, "samples": {"boolq": [{"doc_id": 0}]}}

    monkeypatch.setattr(evaluating, "check_harness", lambda: None)
    monkeypatch.setattr(evaluating, "run_harness", run)
    adapter = _adapter(model, tmp_path / "adapter")
    printed = call("evaluate", model, *options, "--adapter", adapter, "--limit", "5", "--batch-size", "2")
    ((adapted, tokenizer, *rest),) = calls
    assert type(adapted).__name__ == "PeftModelForCausalLM"
    assert tokenizer.eos_token == "</s>"
    assert rest == [["arc_easy", "boolq"], 2, 5]
    assert "boolq: acc,none" in printed
    content, lines = _written(tmp_path / "out.json")
    assert content["lm_eval"] == {"results": {"boolq": {"alias": "boolq", "acc,none": 0.25}}}
    assert "figures" not in content
    assert lines == [{"lm_eval": "boolq", "doc_id": 0}]
    data = _words_file(tmp_path / "words.tsv")
    with pytest.raises(ValueError, match="need a language model"):
        call("evaluate", model, *options, "--task", "classification", "--data", data)
