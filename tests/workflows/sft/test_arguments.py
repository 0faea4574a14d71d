from __future__ import annotations

from pathlib import Path

import pytest

from command import sft_options
from lora_da.workflows.sft.arguments import SftArguments, parse_arguments


def arguments(*options: str) -> SftArguments:
    return parse_arguments(sft_options("model", "data", Path("output"), *options))


def test_lora_is_on_and_of_all_linear_layers_unless_told() -> None:
    plain = arguments()
    assert plain.model.use_peft
    assert vars(plain.model)["lora_target_modules"] == "all-linear"
    chosen = arguments("--lora_target_modules", "q_proj", "v_proj")
    assert chosen.model.lora_target_modules == ["q_proj", "v_proj"]


def test_resuming_is_told_as_a_command_line_can() -> None:
    assert arguments().training.resume_from_checkpoint is None
    assert arguments("--resume_from_checkpoint", "False").training.resume_from_checkpoint is None
    assert vars(arguments("--resume_from_checkpoint", "True").training)["resume_from_checkpoint"] is True
    assert arguments("--resume_from_checkpoint", "folder").training.resume_from_checkpoint == "folder"


def test_a_file_may_hold_the_launchers_settings_but_no_unknown_ones(tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    settings = "model_name_or_path: model\ndataset_name: data\nuse_cpu: true\nbf16: false\n"
    file.write_text(settings + "num_processes: 2\n")
    with pytest.warns(UserWarning, match="num_processes 2 are not used: those of a launcher"):
        parse_arguments(["--config", str(file), "--output_dir", str(tmp_path)])
    file.write_text(settings + "lora_rank: 8\n")
    with pytest.raises(ValueError, match="setting lora_rank is no option"):
        parse_arguments(["--config", str(file), "--output_dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("given", "expected"),
    [((), False), (("--bf16", "true"), True), (("--bf16=false",), False), (("--use_cpu", "true"), False)],
)
def test_a_cpu_trains_in_bfloat16_only_if_asked(
    tmp_path: Path, given: tuple[str, ...], expected: bool, recwarn: pytest.WarningsRecorder
) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(f"model_name_or_path: model\ndataset_name: data\nuse_cpu: true\noutput_dir: {tmp_path}\n")
    training = parse_arguments(["--config", str(file), *given]).training
    assert training.bf16 is expected
    told = [str(one.message) for one in recwarn if "training is in float32" in str(one.message)]
    assert bool(told) == (not any("bf16" in word for word in given))
