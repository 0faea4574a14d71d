"""``lora-da sft --lora_da_freeze_a``: B alone moves, from whatever start, and the cards say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

from command import call, sft_options
from lora_da import load_report
from lora_da.workflows.sft import fine_tuning as module
from lora_da.workflows.sft.arguments import parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune
from lora_da.workflows.sft.frozen_card import FrozenATrainer


def train(model: str, data: str, output: Path, *options: Any) -> None:
    frozen = ["--lora_da_freeze_a", "--learning_rate", 1e-2]
    fine_tune(parse_arguments(sft_options(model, data, output, *frozen, *options)))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def check_moved(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> None:
    """B has moved everywhere and A nowhere."""
    assert start.keys() == end.keys()
    for name, value in end.items():
        assert torch.equal(value, start[name]) == (".lora_A." in name), name


def test_an_initialised_adapter_whose_cards_say_so(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(model, data, run, "--save_steps", 2)
    count = sum(value.numel() for name, value in weights(run).items() if ".lora_B." in name)
    assert f"A is frozen: {count:,} parameters are trained" in capsys.readouterr().out
    initial = run / "initial_adapter"
    check_moved(weights(initial), weights(run))
    for folder in (run, run / "checkpoint-2", run / "checkpoint-4"):
        assert card(folder).count("Only B of this adapter was trained") == 1
    assert "A is frozen in training" in card(initial)
    assert any("A is frozen in training" in notice for notice in load_report(initial).notices)
    assert json.loads((initial / "lora_da.json").read_text())["provenance"]["freeze_a"] is True
    reloaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), run, is_trainable=True)
    assert reloaded.get_nb_trainable_parameters()[0] > count  # an ordinary adapter, A trainable again


def test_any_other_start(model: str, data: str, tmp_path: Path) -> None:
    train(model, data, tmp_path / "still", "--lora_da_init", "false", "--learning_rate", 0)
    train(model, data, tmp_path / "random", "--lora_da_init", "false")
    check_moved(weights(tmp_path / "still"), weights(tmp_path / "random"))
    adapter = tmp_path / "adapter"
    call("init", model, "--data", data, "--output", adapter, "--rank", 3, "--examples", 8)
    train(model, data, tmp_path / "folder", "--lora_da_adapter", adapter)
    check_moved(weights(adapter), weights(tmp_path / "folder"))


class _InterruptedError(RuntimeError):
    pass


class _Interrupt(TrainerCallback):
    """Stops a run after its first checkpoint."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise _InterruptedError


def test_a_resumed_run_keeps_it_frozen(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(model, data, tmp_path / "whole", "--save_steps", 2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "FrozenATrainer", lambda **given: FrozenATrainer(**given, callbacks=[_Interrupt()]))
        with pytest.raises(_InterruptedError):
            train(model, data, tmp_path / "broken", "--save_steps", 2)
    train(model, data, tmp_path / "broken", "--save_steps", 2, "--resume_from_checkpoint", "true")
    torch.testing.assert_close(weights(tmp_path / "broken"), weights(tmp_path / "whole"), rtol=0, atol=0)
    for run in ("whole", "broken"):
        state = torch.load(tmp_path / run / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"]
        assert len(state) == 14  # one B a layer


def test_a_card_that_is_pushed_says_so(model: str, data: str, tmp_path: Path) -> None:
    """TRL writes it anew before it uploads the folder."""
    train(model, data, tmp_path / "run")
    arguments = parse_arguments(sft_options(model, data, tmp_path / "run", "--lora_da_freeze_a"))
    trainer: Any = module.make_trainer(arguments)
    trainer.create_model_card(model_name="run")
    assert card(tmp_path / "run").count("Only B of this adapter was trained") == 1


def test_a_base_in_4_bits(model: str, data: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    train(model, data, tmp_path / "run", "--load_in_4bit")
    check_moved(weights(tmp_path / "run" / "initial_adapter"), weights(tmp_path / "run"))
