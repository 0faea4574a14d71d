"""Fine-tuning by TRL from an adapter of LoRA-DA: what TRL's own script does, with another start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
    set_seed,
)

from command import sft_options
from folders import EMPTY_GGUF, tiny_model_folder
from lora_da import load_report
from lora_da.workflows.finite_trainer import FiniteTrainer
from lora_da.workflows.sft import fine_tuning as module
from lora_da.workflows.sft import start
from lora_da.workflows.sft.arguments import SftArguments, parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune, make_trainer


def arguments(*given: Any) -> SftArguments:
    return parse_arguments(sft_options(*given))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_training_starts_at_the_recorded_adapter(model: str, data: str, tmp_path: Path) -> None:
    """At a learning rate of zero it ends there too; and from there the model's loss is the reported one."""
    fine_tune(arguments(model, data, tmp_path / "run", "--learning_rate", 0, "--lora_r", 2))
    initial = tmp_path / "run" / "initial_adapter"
    torch.testing.assert_close(weights(tmp_path / "run"), weights(initial), rtol=0, atol=0)
    report = load_report(initial)
    assert (report.examples, report.population_size, len(report.layers)) == (12, 40, 14)
    assert all(bool(value.any()) for name, value in weights(initial).items() if "lora_B" in name)
    about = json.loads((initial / "lora_da.json").read_text())["provenance"]
    assert (about["data"], about["calibration"]) == (data, {"examples": 12, "seed": 42})
    assert json.loads((initial / "adapter_config.json").read_text())["base_model_name_or_path"] == model

    fine_tune(arguments(model, data, tmp_path / "moved", "--learning_rate", 1e-2, "--lora_r", 2))
    torch.testing.assert_close(weights(tmp_path / "moved" / "initial_adapter"), weights(initial), rtol=0, atol=0)
    assert not any(torch.equal(value, weights(initial)[name]) for name, value in weights(tmp_path / "moved").items())
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), tmp_path / "moved")


def test_without_the_initialisation_it_is_trls_script(model: str, data: str, tmp_path: Path) -> None:
    scripts = pytest.importorskip("trl.scripts.sft")
    options = ["--lora_da_init", "false", "--learning_rate", 1e-2]
    fine_tune(arguments(model, data, tmp_path / "ours", *options))
    assert not (tmp_path / "ours" / "initial_adapter").exists()
    same = arguments(model, str(Path(data).parent), tmp_path / "theirs", *options)
    set_seed(same.training.seed)  # TRL draws LoRA's random matrices from whatever state it finds
    scripts.main(same.script, same.training, same.model, same.mixture)
    torch.testing.assert_close(weights(tmp_path / "ours"), weights(tmp_path / "theirs"), rtol=0, atol=0)


class _InterruptedError(RuntimeError):
    pass


class _Interrupt(TrainerCallback):
    """Stops a run after its first checkpoint."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise _InterruptedError


def test_an_interrupted_run_resumes_without_a_new_start(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--save_steps", 2, "--learning_rate", 1e-2]
    fine_tune(arguments(model, data, tmp_path / "whole", *options))
    with monkeypatch.context() as patch:
        patch.setattr(module, "FiniteTrainer", lambda **given: FiniteTrainer(**given, callbacks=[_Interrupt()]))
        with pytest.raises(_InterruptedError):
            fine_tune(arguments(model, data, tmp_path / "broken", *options))
    with pytest.raises(FileExistsError, match=r"holds a run already: .* --resume_from_checkpoint true"):
        fine_tune(arguments(model, data, tmp_path / "broken", *options))
    monkeypatch.setattr(start, "initialize_from_trainer", None)  # would fail if called
    fine_tune(arguments(model, data, tmp_path / "broken", *options, "--resume_from_checkpoint", "true"))
    for part in (".", "initial_adapter"):
        expected, found = weights(tmp_path / "whole" / part), weights(tmp_path / "broken" / part)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_outputs_that_are_in_the_way_or_missing(model: str, data: str, tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "adapter_config.json").touch()
    with pytest.raises(FileExistsError, match=r"finished holds a run already: choose another --output_dir, remove it$"):
        fine_tune(arguments(model, data, finished))
    for wanted, message in (
        ("true", "holds no whole checkpoint to resume from"),
        ("nowhere", "there is no checkpoint"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            fine_tune(arguments(model, data, tmp_path / "new", "--resume_from_checkpoint", wanted))
    assert not (tmp_path / "new").exists()
    assert [path.name for path in finished.iterdir()] == ["adapter_config.json"]


def test_a_run_that_ended_within_its_first_checkpoint_begins_anew(model: str, data: str, tmp_path: Path) -> None:
    cut_short = tmp_path / "run" / "checkpoint-2"
    cut_short.mkdir(parents=True)
    (tmp_path / "run" / "README.md").touch()  # by TRL, before the checkpoint
    with pytest.raises(FileExistsError, match=r"run holds a run already: choose another --output_dir, remove it$"):
        arguments(model, data, tmp_path / "run").check_output()  # whose it is can't be told
    (tmp_path / "run" / "initial_adapter").mkdir()
    arguments(model, data, tmp_path / "run").check_output()
    with pytest.raises(FileNotFoundError, match="holds no whole checkpoint"):
        arguments(model, data, tmp_path / "run", "--resume_from_checkpoint", "true").check_output()


def test_models_that_transformers_does_not_know(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[tuple[Path, Path]] = []

    def convert(file: Path, folder: Path) -> Path:
        converted.append((file, folder))
        return tiny_model_folder(folder)

    monkeypatch.setattr(module, "convert_gguf", convert)
    for file in (tmp_path / "some.gguf", tmp_path / "other.GGUF"):
        file.write_bytes(EMPTY_GGUF)
        trainer: Any = make_trainer(arguments(str(file), data, tmp_path / "run"))
        folder = tmp_path / f"{file.stem}-safetensors"
        assert converted[-1] == (file, folder)
        assert trainer.model.config._name_or_path == str(folder)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    with pytest.raises(ValueError, match="holds an adapter, which would be loaded with the model"):
        make_trainer(arguments(str(tmp_path / "adapter"), data, tmp_path / "run"))


def test_what_is_wrong_is_found_before_the_initialisation(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "initialize_from_trainer", lambda *_, **__: pytest.fail("the adapter is initialised"))

    def refused(message: str, *given: Any) -> None:
        with pytest.raises(ValueError, match=message):
            fine_tune(arguments(*given))

    rows = Path(data).read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text("\n".join([*rows[:30], '{"prompt": "1 + 1 ="}', *rows[30:]]))
    refused("'train' of the data: Row 30 has no completion", model, str(tmp_path / "bad.jsonl"), tmp_path / "run")
    for chosen, message in (
        ("q_porj v_proj", "'q_porj'.*did you mean 'q_proj'"),
        ("all-linear q_proj", "give it alone"),
    ):
        refused(message, model, data, tmp_path / "run", "--lora_target_modules", *chosen.split())
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    whole = load_file(folder / "model.safetensors")
    part = {f"_orig_mod.{name}": weight for name, weight in whole.items()}
    save_file(part, folder / "model.safetensors", metadata={"format": "pt"})
    refused(r"lacks weights .* files have _orig_mod\.", str(folder), data, tmp_path / "run")
    config = AutoConfig.from_pretrained(model)
    small = GPT2Config(vocab_size=config.vocab_size, n_positions=10, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(small).save_pretrained(folder)
    refused(
        "example has 13 tokens, and the model positions for 10: give --max_length 10", str(folder), data, tmp_path / "r"
    )


def test_conversations_of_another_form_are_trained_as_the_plain_ones(model: str, tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}"
    tokenizer.save_pretrained(folder)
    turns = [[("user", f"{n} + 1 ="), ("assistant", f"{n + 1}")] for n in range(16)]
    speakers = {"user": "human", "assistant": "gpt"}
    plain = [{"messages": [{"role": role, "content": said} for role, said in turn]} for turn in turns]
    shared = [{"conversations": [{"from": speakers[role], "value": said} for role, said in turn]} for turn in turns]
    for name, rows in (("plain", plain), ("shared", shared)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        fine_tune(arguments(str(folder), str(tmp_path / f"{name}.json"), tmp_path / name))
    for part in (".", "initial_adapter"):
        expected, found = weights(tmp_path / "plain" / part), weights(tmp_path / "shared" / part)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
