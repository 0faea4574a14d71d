"""The options of ``lora-da sft``: those of `trl sft`, and a few of LoRA-DA."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

from lora_da.config import EXAMPLES
from lora_da.loading.model_source import ModelSource
from lora_da.workflows.settings import PRESETS, inputs_of
from lora_da.workflows.sft.first_look import check_given, check_output, settings_of


@dataclass
class InitializationArguments:
    """The options that `trl sft` does not have."""

    lora_da_init: bool = field(
        default=True,
        metadata={"help": "Initialise the adapter by LoRA-DA from the training data; if false, by PEFT at random."},
    )
    lora_da_preset: str = field(
        default="default",
        metadata={
            "help": "LoRA-DA's settings: the best that has been measured (default), those of the paper, or those of "
            "the authors' released configuration.",
            "choices": list(PRESETS),
        },
    )
    lora_da_examples: int = field(
        default=EXAMPLES, metadata={"help": "How many training examples the adapter is initialised from."}
    )
    lora_da_adapter: str | None = field(
        default=None,
        metadata={
            "help": "Start from this adapter, a folder of `lora-da init`, instead of initialising one; rank, alpha and "
            "layers are then its own."
        },
    )
    lora_da_freeze_a: bool = field(
        default=False,
        metadata={"help": "Train B alone: A stays as it is at the start, whatever that is, and takes less memory."},
    )


@dataclass(frozen=True)
class SftArguments:
    """What a call of ``lora-da sft`` asks for.

    Attributes:
        initialization: Our options.
        script: TRL's options about the data set.
        training: TRL's options about training and preparing the data.
        model: TRL's options about the model and the adapter.
        mixture: TRL's options about a mixture of data sets.
    """

    initialization: InitializationArguments
    script: ScriptArguments
    training: SFTConfig
    model: ModelConfig
    mixture: DatasetMixtureConfig

    @property
    def output(self) -> Path:
        """The folder to write."""
        return Path(str(self.training.output_dir))

    def check_output(self) -> None:
        """Refuse to write into the folder of another run, and to resume one that isn't there; see there."""
        given, mixture = (
            self.script.dataset_name,
            {f"the data {entry.path}, at": str(entry.path) for entry in self.mixture.datasets},
        )
        inputs = inputs_of(ModelSource(str(self.model.model_name_or_path)), self.output, given)
        own: Any = self.training.resume_from_checkpoint
        check_output(self.output, inputs | mixture | {"the adapter": self.initialization.lora_da_adapter}, own)


def parse_arguments(arguments: Sequence[str]) -> SftArguments:
    """Read a command line, and the YAML file that its ``--config`` names, as `trl sft` does.

    LoRA is always on, of all linear layers if no others are named.

    Raises:
        SystemExit: Help was asked for, or a value is not valid; argparse has printed it.
        ValueError: An option is not known, or the model or the data are missing.
    """
    kinds: Any = (InitializationArguments, ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig)
    arguments = [*arguments, *_slow_precision_left_out(settings_of(arguments))]
    parser = TrlParser(
        kinds,
        prog="lora-da sft",
        usage="lora-da sft --model_name_or_path MODEL --dataset_name DATA --output_dir FOLDER [option ...]",
        description="Fine-tune a LoRA adapter by TRL's SFTTrainer, initialised by LoRA-DA from the training data. All "
        "options of `trl sft`, after those of LoRA-DA; --config FILE reads them from YAML.",
    )
    try:
        *parsed, unused, unknown = parser.parse_args_and_config(
            list(arguments), return_remaining_strings=True, separate_remaining_strings=True
        )
    except ValueError as error:
        if "use_cpu" not in str(error):
            raise
        raise ValueError(
            "there is no GPU here that trains in bfloat16: train on the CPU by --use_cpu --bf16 false, or on an older "
            "GPU by --bf16 false"
        ) from error
    if unknown:
        raise ValueError(f"there is no option {unknown[0]}; `lora-da sft --help` lists them")
    _check_settings_of_file(unused)
    found = SftArguments(*parsed)
    check_given(found.model.model_name_or_path, found.script.dataset_name or found.mixture.datasets)
    if found.model.lora_target_modules is None and found.model.lora_target_parameters is None:
        found.model.lora_target_modules = "all-linear"  # type: ignore[assignment]
    found.model.use_peft = True
    resume = str(found.training.resume_from_checkpoint).lower()
    if resume in ("true", "false"):  # of a command line, which knows no other than strings
        found.training.resume_from_checkpoint = True if resume == "true" else None  # type: ignore[assignment]
    return found


def _slow_precision_left_out(given: Mapping[str, Any]) -> list[str]:
    """Options that keep TRL from training in bfloat16 on a CPU, many times slower on most, if nothing is said of it."""
    if str(given.get("use_cpu", False)).lower() not in ("true", "1", "yes") or given.keys() & {"bf16", "fp16"}:
        return []
    warnings.warn("training is in float32, as most CPUs are slow in bfloat16 (--bf16 true takes that)", stacklevel=3)
    return ["--bf16", "false"]


def _check_settings_of_file(unused: Sequence[str]) -> None:
    """Refuse settings of a file that are no options, but for the launcher's, which `trl sft` hands on to it."""
    from accelerate.commands.launch import launch_command_parser

    names = [name for name in unused if name.startswith("--")]
    launcher = {"--" + name[2:].replace("-", "_") for name in launch_command_parser()._option_string_actions}
    unknown = [name for name in names if "--" + name[2:].replace("-", "_") not in launcher | {"--accelerate_config"}]
    if unknown:
        raise ValueError(f"the file's setting {unknown[0][2:]} is no option; `lora-da sft --help` lists them")
    if names:
        warnings.warn(
            f"the file's settings {' '.join(unused)} are not used: those of a launcher go to `accelerate launch`",
            stacklevel=2,
        )
