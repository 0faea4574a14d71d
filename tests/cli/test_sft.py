"""``lora-da sft`` as it is typed, and the commands that are elsewhere now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from command import call
from folders import sums_file, tiny_model_folder
from lora_da import load_report
from lora_da.cli.app import app

# As written for `trl sft`, but for the model, the data, and the CPU.
CONFIG = """\
# Model
model_name_or_path: {model}
use_peft: true
lora_r: 4
lora_alpha: 8
lora_dropout: 0.0
lora_target_modules: [q_proj, v_proj, down_proj]
dtype: float32
# Data
dataset_name: {data}
dataset_train_split: train
test_split_size: 0.2
max_length: 64
packing: true
eval_packing: false
# Training
output_dir: {output}
learning_rate: 1.0e-3
lr_scheduler_type: cosine
warmup_steps: 1
num_train_epochs: 4
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
gradient_checkpointing: true
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
save_total_limit: 1
logging_steps: 1
report_to: none
push_to_hub: false
seed: 7
use_cpu: true
bf16: false
# Launcher
num_processes: 2
"""


def test_a_configuration_of_trl_sft(tmp_path: Path) -> None:
    model, data = tiny_model_folder(tmp_path / "model"), sums_file(tmp_path / "sums.jsonl")
    config, output = tmp_path / "sft.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(model=model, data=data, output=output))
    with pytest.warns(UserWarning, match="settings --num_processes 2 are not used"):
        printed = call("sft", "--config", config, "--lora_da_examples", 20, "--max_steps", -1)
    assert "6 layers initialised from 20 examples" in printed
    assert "Loss per token: " in printed
    adapter = json.loads((output / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (4, 8)
    (checkpoint,) = output.glob("checkpoint-*")
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4]
    assert load_report(output / "initial_adapter").population_size == 32  # packed into fewer rows


def test_help_is_trls_with_ours_first() -> None:
    printed = call("sft", "--help")
    options = printed[printed.index("options:") :]
    places = [options.index(f"--{name}") for name in ("lora_da_init", "lora_da_examples", "dataset_name", "packing")]
    assert places == sorted(places)
    assert printed.startswith("usage: lora-da sft --model_name_or_path MODEL")
    assert "--lora_da" not in call("--help")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--lora_rank", "4"], "no option --lora_rank; "),
        (["--dataset_name", "rows.jsonl"], "model is missing: give --model_name_or_path"),
        (["--model_name_or_path", "model"], "data are missing: give --dataset_name"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call("sft", "--use_cpu", "--bf16", "false", *given)


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("train", "lora-da sft --model_name_or_path MODEL"),
        ("compare", "lora-da-bench compare"),
        ("evaluate", "lm_eval --model hf"),
    ],
)
def test_commands_that_have_moved_say_what_to_type(command: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"no command '{command}' any more; type: {instead}"):
        call(command, "MODEL", "--data", "rows.jsonl", "--help")
    assert f"│ {command} " not in CliRunner().invoke(app, ["--help"]).output
