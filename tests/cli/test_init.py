"""``lora-da init`` and ``lora-da inspect``, as a user calls them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from command import call
from lora_da import load_report


@pytest.fixture(scope="module")
def adapter(model: str, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "adapter"
    options = ["--data", data, "--output", folder, "--rank", 4, "--examples", 16]
    call("init", model, *options, "--save-statistics", folder.parent / "sums.safetensors")
    return folder


def test_init_writes_a_standard_adapter(model: str, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert config["base_model_name_or_path"] == model
    assert config["r"] == 4
    assert config.keys() <= LoraConfig().to_dict().keys()
    assert config["use_rslora"] is True
    assert sorted(config["target_modules"]) == config["target_modules"]
    assert all(name.endswith("_proj") for name in config["target_modules"])
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "lora_da.json",
        "README.md",
    }
    assert "LoRA-DA" in (adapter / "README.md").read_text()
    record = json.loads((adapter / "lora_da.json").read_text())
    assert record["provenance"]["rows"] == 40
    assert len(record["provenance"]["data_fingerprint"]) == 64
    assert load_report(adapter).population_size == 40
    assert load_report(adapter).examples == 16


def test_adapter_loads_with_plain_peft(model: str, adapter: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model)
    loaded = PeftModel.from_pretrained(base, adapter)
    layers: list[Any] = [module for module in loaded.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == 14
    assert all(bool(layer.lora_B["default"].weight.any()) for layer in layers)


def test_presets_differ(model: str, data: str, tmp_path: Path) -> None:
    kept = []
    for preset in ("default", "paper", "released"):
        call("init", model, "--data", data, "--output", tmp_path / preset, "--preset", preset, "--examples", 8)
        kept.append(load_report(tmp_path / preset).config.fisher_unit)
    assert kept == ["example", "example", "token"]
    with pytest.raises(ValueError, match="no preset 'best'"):
        call("init", model, "--data", data, "--output", tmp_path / "best", "--preset", "best")


def test_seed_draws_the_sample_and_repeats_it(model: str, data: str, tmp_path: Path) -> None:
    tensors = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        call("init", model, "--data", data, "--output", tmp_path / name, "--examples", 8, "--seed", seed, "--rank", 2)
        tensors.append(load_file(tmp_path / name / "adapter_model.safetensors"))
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert not all(torch.equal(tensors[0][key], tensors[2][key]) for key in tensors[0])


def test_target_modules_and_scaling(model: str, data: str, tmp_path: Path) -> None:
    options = ["--target-modules", "q_proj,v_proj", "--no-rslora", "--alpha", "4", "--rank", "2", "--examples", "8"]
    call("init", model, "--data", data, "--output", tmp_path / "few", *options)
    config = json.loads((tmp_path / "few" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["use_rslora"], config["lora_alpha"]) == (False, 4)
    assert len(load_report(tmp_path / "few").layers) == 4


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_names_of_layers_that_are_not_there(model: str, data: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    for names, message in (
        ("q_porj,v_proj", "'q_porj'.*did you mean 'q_proj'"),
        ("all-linear,q_proj", "give it alone"),
    ):
        with pytest.raises(ValueError, match=message):
            call("init", model, "--data", data, "--output", tmp_path / "a", "--target-modules", names, *options)


def test_the_form_of_the_data_does_not_change_the_adapter(model: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(12)]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "rows": rows}))
    lines = [f"{row['prompt']};{row['completion']}" for row in rows]
    (tmp_path / "semicolons.csv").write_text("\n".join(["prompt;completion", *lines]))
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    made: list[bytes] = []
    for name in ("plain.jsonl", "wrapped.json:rows", "semicolons.csv", "saved"):
        call("init", model, "--data", tmp_path / name, "--output", tmp_path / f"a-{len(made)}", "--rank", 2)
        made.append((tmp_path / f"a-{len(made)}" / "adapter_model.safetensors").read_bytes())
    assert made[1:] == made[:1] * 3


def test_examples_beyond_the_models_positions(model: str, data: str, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    vocabulary = AutoConfig.from_pretrained(model).vocab_size
    small = GPT2Config(vocab_size=vocabulary, n_positions=10, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(small).save_pretrained(folder)
    options = ["init", folder, "--data", data, "--rank", 2, "--output", tmp_path / "a"]
    with pytest.raises(
        ValueError, match="longest example has 13 tokens, and the model positions for 10: give --max-len"
    ):
        call(*options)
    call(*options, "--max-length", 10)


def test_dry_run_writes_nothing(model: str, data: str, tmp_path: Path) -> None:
    output = call("init", model, "--data", data, "--output", tmp_path / "adapter", "--examples", 16, "--dry-run")
    for said in ("q_proj", "calibration examples", "16", "memory: sums of all layers", "time on this machine"):
        assert said in output
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(model: str, data: str, adapter: Path, tmp_path: Path) -> None:
    common = ["init", model, "--data", data, "--examples", "8", "--rank", "2"]
    before = (adapter / "adapter_model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        call(*common, "--output", adapter)
    assert (adapter / "adapter_model.safetensors").read_bytes() == before
    call(*common, "--output", tmp_path / "a")
    call(*common, "--output", tmp_path / "a", "--overwrite", "--seed", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty|no rows"),
        ('{"question": "a", "answer": "b"}\n', "--prompt-column"),
        ('{"prompt": "a", "completion": ""}\n', "completion"),
    ],
)
def test_bad_data_is_named_and_leaves_nothing(model: str, tmp_path: Path, content: str, message: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(content)
    with pytest.raises(ValueError, match=message):
        call("init", model, "--data", data, "--output", tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_layers_narrower_than_the_rank_keep_the_default(model: str, data: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="rank 33, above its input width 32"):
        call("init", model, "--data", data, "--output", tmp_path / "adapter", "--rank", 33)


def test_only_adapters_are_replaced_and_outputs_keep_apart(model: str, data: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "notes.txt").write_text("mine")
    common = ["init", model, "--data", data, "--examples", "4", "--rank", "2", "--output"]
    with pytest.raises(FileExistsError, match=r"holds notes\.txt.*and is not replaced"):
        call(*common, precious, "--overwrite")
    assert (precious / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="lies inside"):
        call(*common, tmp_path / "a", "--save-statistics", tmp_path / "a" / "sums.safetensors")
    assert not (tmp_path / "a").exists()


def test_inspect_an_adapter_and_statistics(adapter: Path, tmp_path: Path) -> None:
    for _ in range(2):
        output = call("inspect", adapter, "--page", tmp_path / "adapter.html")
    assert "self_attn.q_proj" in output
    assert "Loss per token" in output
    output = call("inspect", adapter.parent / "sums.safetensors", "--rank", 8, "--page", tmp_path / "file.html")
    assert "mlp.down_proj" in output
    for name in ("adapter.html", "file.html"):
        assert "mlp.down_proj" in (tmp_path / name).read_text(encoding="utf-8")
    beside = adapter.parent / "sums.html"
    beside.write_text("not ours")
    with pytest.raises(FileExistsError, match="--overwrite"):
        call("inspect", adapter.parent / "sums.safetensors", "--rank", 8)
    assert beside.read_text() == "not ours"


def test_inspect_needs_something_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lora_da\.json"):
        call("inspect", tmp_path)


def test_errors_are_one_line_without_a_traceback(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lora_da", "init", model, "--data", "none.jsonl", "--output", str(tmp_path / "a")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("lora-da: There is no data file none.jsonl")


def test_ranks_from_the_data_have_one_scaling(model: str, data: str, adapter: Path, tmp_path: Path) -> None:
    budget = ["--rank", "auto", "--rank-budget", 3]
    call("init", model, "--data", data, "--examples", 16, *budget, "--output", tmp_path / "data")
    call("init", model, "--statistics", adapter.parent / "sums.safetensors", *budget, "--output", tmp_path / "sums")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("data", "sums"))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), tmp_path / "data")
    layers: list[Any] = [module for module in loaded.modules() if isinstance(module, LoraLayer)]
    ranks = [layer.r["default"] for layer in layers]
    assert len(set(ranks)) > 1
    assert {round(layer.scaling["default"], 6) for layer in layers} == {round(16 / 3**0.5, 6)}
    sizes = [sum(layer.get_base_layer().weight.shape) for layer in layers]
    assert 2.5 * sum(sizes) < sum(rank * size for rank, size in zip(ranks, sizes, strict=True)) <= 3 * sum(sizes)


def test_a_budget_belongs_to_ranks_from_the_data(model: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='goes with the rank "auto"'):
        call("init", model, "--data", data, "--rank-budget", 3, "--output", tmp_path / "out")
