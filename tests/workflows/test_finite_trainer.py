from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from command import sft_options
from lora_da.system.json_file import read_object
from lora_da.workflows.checkpoints import find_whole_checkpoint, list_checkpoints
from lora_da.workflows.sft.arguments import parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune, make_trainer


def trainer_of(model: str, data: str, folder: Path, *options: object) -> Any:
    return make_trainer(parse_arguments(sft_options(model, data, folder, "--lora_da_init", "false", *options)))


def test_training_stops_at_the_first_loss_that_is_not_finite(model: str, data: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, data, tmp_path, "--save_steps", 1)
    step = trainer.compute_loss

    def compute(*args: Any, **kwargs: Any) -> Any:
        loss = step(*args, **kwargs)
        return loss * (torch.nan if trainer.state.global_step == 2 else 1.0)

    trainer.compute_loss = compute
    with pytest.raises(FloatingPointError, match=r"the loss at step 3 is nan: .*checkpoint-2 is the last checkpoint"):
        trainer.train()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-1"]


def test_no_adapter_with_such_a_number_is_saved(model: str, data: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, data, tmp_path / "run")
    weight = next(part for part in trainer.model.parameters() if part.requires_grad)
    weight.data[0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"after step 0 .*lora_A.* is not finite"):
        trainer.save_model(str(tmp_path / "run"))
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
    trainer.log({"grad_norm": float("inf")})  # as of a scaler's first steps
    assert trainer.state.log_history[-1]["grad_norm"] == "inf"
    with pytest.raises(FloatingPointError, match="eval_loss at step 0 is nan"):
        trainer.log({"eval_loss": float("nan")})


def test_a_checkpoint_that_was_cut_short_is_passed_over(model: str, data: str, tmp_path: Path) -> None:
    options = sft_options(model, data, tmp_path / "run", "--lora_da_init", "false", "--save_steps", 2)
    fine_tune(parse_arguments(options))
    last, before = list_checkpoints(tmp_path / "run")
    state = last / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:-20])
    assert find_whole_checkpoint(tmp_path / "run") == before
    with pytest.warns(UserWarning, match=r"checkpoint-4 was cut short or is damaged; the run goes on from .*-2"):
        fine_tune(parse_arguments([*options, "--resume_from_checkpoint", "true"]))
    assert read_object(state, "")["global_step"] == 4
    (last / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"checkpoint-4 was cut short or is damaged: go on from .*-2"):
        fine_tune(parse_arguments([*options, "--resume_from_checkpoint", str(last)]))
