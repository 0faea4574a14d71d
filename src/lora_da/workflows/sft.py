"""Supervised fine-tuning by TRL, from an adapter that LoRA-DA initialises: the work behind ``lora-da sft``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_dataset,
    get_peft_config,
    get_quantization_config,
)

from lora_da.api import initialize_from_trainer
from lora_da.loading.gguf import convert_gguf
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import check_model_folder
from lora_da.loading.rows import load_rows
from lora_da.report.initialization import InitializationReport
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.presets import PRESETS, preset_config

INITIAL_ADAPTER = "initial_adapter"
"""The folder in a run's output that holds the adapter that training started from."""


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
        default=256, metadata={"help": "How many training examples the adapter is initialised from."}
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


def parse_arguments(arguments: Sequence[str]) -> SftArguments:
    """Read a command line, and the YAML file that its ``--config`` names, as `trl sft` does.

    LoRA is always on, of all linear layers if no others are named.

    Args:
        arguments: What follows ``lora-da sft``.

    Raises:
        SystemExit: Help was asked for, or a value is not valid; argparse has printed it.
        ValueError: An option is not known, or the model or the data are missing.
    """
    kinds: Any = (InitializationArguments, ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig)
    parser = TrlParser(
        kinds,
        prog="lora-da sft",
        usage="lora-da sft --model_name_or_path MODEL --dataset_name DATA --output_dir FOLDER [option ...]",
        description="Fine-tune a LoRA adapter by TRL's SFTTrainer, initialised by LoRA-DA from the training data. All "
        "options of `trl sft`, after those of LoRA-DA; --config FILE reads them from YAML.",
    )
    *parsed, unused, unknown = parser.parse_args_and_config(
        list(arguments), return_remaining_strings=True, separate_remaining_strings=True
    )
    if unknown:
        raise ValueError(f"there is no option {unknown[0]}; `lora-da sft --help` lists them")
    if unused:  # `trl sft` hands them on to accelerate's launcher
        warnings.warn(
            f"the file's settings {' '.join(unused)} are not used: those of a launcher go to `accelerate launch`",
            stacklevel=2,
        )
    found = SftArguments(*parsed)
    if found.model.model_name_or_path is None:
        raise ValueError("the model is missing: give --model_name_or_path, a folder, a Hugging Face id or a GGUF file")
    if not found.script.dataset_name and not found.mixture.datasets:
        raise ValueError("the data are missing: give --dataset_name, a file or a Hugging Face id")
    if found.model.lora_target_modules is None and found.model.lora_target_parameters is None:
        found.model.lora_target_modules = "all-linear"  # type: ignore[assignment]
    found.model.use_peft = True
    resume = str(found.training.resume_from_checkpoint).lower()
    if resume in ("true", "false"):  # of a command line, which knows no other than strings
        found.training.resume_from_checkpoint = True if resume == "true" else None  # type: ignore[assignment]
    return found


def fine_tune(arguments: SftArguments) -> None:
    """Initialise an adapter and train it, as TRL's own script does but for the initialisation.

    The output folder receives the trained adapter, TRL's checkpoints, and the adapter that training started from.

    Args:
        arguments: What is wanted.

    Raises:
        FileExistsError: The output folder holds another run, and it is not to be resumed.
        ValueError: The data or the settings can't be used.
    """
    training = arguments.training
    check_output(arguments)
    set_seed(training.seed)  # of the split and of LoRA's random matrices, the same in all processes
    trainer = make_trainer(arguments)
    tell = trainer.accelerator.print
    if arguments.initialization.lora_da_init and training.resume_from_checkpoint is None:
        report = _initialize(trainer, arguments)
        tell(report)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    tell(f"written: {training.output_dir}")
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=arguments.script.dataset_name)
        tell(f"pushed: https://huggingface.co/{trainer.hub_model_id}")
    trainer.accelerator.end_training()  # the trackers and the process group


def check_output(arguments: SftArguments) -> None:
    """Refuse to write into the folder of another run, and to resume one that isn't there.

    Raises:
        FileExistsError: The folder holds a run's adapter or checkpoints.
        FileNotFoundError: There is no checkpoint to resume from.
    """
    output, resume = arguments.output, arguments.training.resume_from_checkpoint
    checkpoint = get_last_checkpoint(output) if output.is_dir() else None
    if resume is None and (checkpoint is not None or (output / "adapter_config.json").exists()):
        further = "" if checkpoint is None else ", or go on with it by --resume_from_checkpoint true"
        raise FileExistsError(f"{output} holds a run already: choose another --output_dir, remove it{further}")
    if isinstance(resume, bool) and checkpoint is None:
        raise FileNotFoundError(f"{output} holds no checkpoint to resume from: leave --resume_from_checkpoint out")
    if isinstance(resume, str) and not Path(resume).is_dir():
        raise FileNotFoundError(f"there is no checkpoint {resume} to resume from")


def make_trainer(arguments: SftArguments) -> SFTTrainer:
    """Make TRL's trainer with its data, its model and a fresh adapter."""
    training, model = arguments.training, arguments.model
    given: Any = training.model_init_kwargs or {}
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    } | given
    with training.main_process_first(local=False, desc="preparing the model"):
        name = _model_name(arguments)
    train, held_out = load_splits(arguments)
    return SFTTrainer(
        model=name,
        args=training,
        train_dataset=train,
        eval_dataset=held_out,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )


def _model_name(arguments: SftArguments) -> str:
    """What transformers loads: a folder or an id; a GGUF file is converted into a folder beside the output first."""
    source = ModelSource(str(arguments.model.model_name_or_path))
    check_model_folder(source.path)
    folder = source.converted_folder(arguments.output)
    return source.path if folder is None else str(convert_gguf(Path(source.path), folder))


def load_splits(arguments: SftArguments) -> tuple[Any, Any]:
    """Load the training set, and the held-out one if evaluation is on.

    A local file, or a folder of ``save_to_disk`` without splits, is one split; ``test_split_size`` sets rows aside.

    Raises:
        ValueError: There is nothing to evaluate on, or no column that TRL reads.
    """
    script, mixture, training = arguments.script, arguments.mixture, arguments.training
    path = Path(str(script.dataset_name))
    if mixture.datasets:
        splits = get_dataset(mixture)
    elif (path / "dataset_dict.json").is_file():
        splits = datasets.load_from_disk(path)
    elif path.is_file() or (path / "state.json").is_file():
        rows = load_rows(str(path))
        splits = datasets.DatasetDict({script.dataset_train_split: rows})
        if mixture.test_split_size is not None:
            splits = rows.train_test_split(mixture.test_split_size, seed=training.seed)
    else:
        splits = datasets.load_dataset(
            script.dataset_name, name=script.dataset_config, streaming=script.dataset_streaming
        )
    wanted = [script.dataset_train_split] + [script.dataset_test_split] * (training.eval_strategy != "no")
    for split in wanted:
        if split not in splits:
            raise ValueError(
                f"the data have no split {split!r}, only {', '.join(splits)}: name one by --dataset_train_split and "
                "--dataset_test_split, or set rows of a file or a mixture aside by --test_split_size 0.1"
            )
    _check_columns(splits[wanted[0]].column_names, training)
    return splits[wanted[0]], splits[wanted[1]] if len(wanted) > 1 else None


def _check_columns(columns: Sequence[str] | None, training: SFTConfig) -> None:
    """Tell which columns TRL reads, where it would only say that one is missing."""
    known = {"messages", "conversations", "input_ids", training.dataset_text_field}
    if columns is None or known & set(columns) or {"prompt", "completion"} <= set(columns):
        return
    raise ValueError(
        f"the data have the columns {', '.join(columns)}; TRL reads messages, prompt and completion, or "
        f"{training.dataset_text_field}: rename them, or name the column of texts by --dataset_text_field"
    )


def _initialize(trainer: Any, arguments: SftArguments) -> InitializationReport:
    """Initialise the trainer's adapter and keep it in the output folder, with how it came about."""
    own, script, training = arguments.initialization, arguments.script, arguments.training
    progress = not training.disable_tqdm
    config = preset_config(own.lora_da_preset, training.seed)
    report = initialize_from_trainer(trainer, config, max_examples=own.lora_da_examples, progress=progress)
    if trainer.is_world_process_zero():
        data = [entry.path for entry in arguments.mixture.datasets] or script.dataset_name
        base = trainer.model.config._name_or_path
        save_adapter(
            trainer.model,
            arguments.output / INITIAL_ADAPTER,
            base=base,
            revision=None if Path(base).is_dir() else arguments.model.model_revision,
            report=report,
            provenance={
                "data": data,
                "split": script.dataset_train_split,
                "rows": report.population_size,
                "preset": own.lora_da_preset,
                "calibration": {"examples": own.lora_da_examples, "seed": training.seed},
                "max_length": training.max_length,
                "packing": training.packing,
            },
            overwrite=True,  # only a run that ended before its first checkpoint can have left one
        )
    return report
