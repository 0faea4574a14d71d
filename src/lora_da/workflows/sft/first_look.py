"""What is wrong with a call of ``lora-da sft``, as far as its words tell: TRL's parser takes seconds to be there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_da.loading.data.data_names import check_data
from lora_da.loading.model_check import check_model
from lora_da.loading.model_source import ModelSource
from lora_da.system.files import refuse_existing, refuse_overlap
from lora_da.workflows.checkpoints import find_whole_checkpoint, is_whole, list_checkpoints
from lora_da.workflows.settings import inputs_of, preset_config

INITIAL_ADAPTER = "initial_adapter"
"""The folder in a run's output that keeps the start, with how it came about in ``lora_da.json``."""

_FILE_BYTES, _ALIASES = 2**18, 20
_WRITTEN = ("README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "training_args.bin")
# What `lora-da init` and other programs call TRL's options.
_MEANT = {
    "model": "model_name_or_path",
    "data": "dataset_name",
    "dataset": "dataset_name",
    "rank": "lora_r",
    "lora_rank": "lora_r",
    "alpha": "lora_alpha",
    "target_modules": "lora_target_modules",
    "examples": "lora_da_examples",
    "preset": "lora_da_preset",
    "adapter": "lora_da_adapter",
    "freeze_a": "lora_da_freeze_a",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
}


def look_at(words: Sequence[str]) -> None:
    """Refuse a command line, with the YAML file that its ``--config`` names, which can't be carried out.

    Raises:
        OSError: The model, the data, the adapter to start from or the checkpoint to go on from is not there, or the
            output is or can't be written.
        ValueError: An option is none, is missing, or has a value that can't be used.
    """
    given = settings_of(words)
    for name in given:
        if name in _MEANT:
            raise ValueError(f"there is no option --{name}; type --{_MEANT[name]} (`lora-da sft --help` lists them)")
    model, data = _find(given, "model_name_or_path"), _find(given, "dataset_name")
    check_given(model, data or given.get("datasets"))
    preset_config(str(_find(given, "lora_da_preset") or "default"), 0)
    source = ModelSource(str(model))
    check_model(source)
    if data:
        check_data(str(data))
    adapter, output = _find(given, "lora_da_adapter"), _find(given, "output_dir")
    if adapter:
        check_adapter(str(adapter))
    if output:
        resume = _find(given, "resume_from_checkpoint")
        resume = {"true": True, "false": None, "none": None}.get(str(resume).lower(), resume)
        inputs = inputs_of(source, Path(str(output)), str(data) if data else None) | {"the adapter": adapter}
        check_output(Path(str(output)), inputs, resume)


def check_given(model: Any, data: Any) -> None:
    """Refuse to begin without a model or data."""
    if not model:
        raise ValueError("the model is missing: give --model_name_or_path, a folder, a Hugging Face id or a GGUF file")
    if not data:
        raise ValueError("the data are missing: give --dataset_name, a file or a Hugging Face id")


def check_adapter(folder: str) -> None:
    """Refuse to start from a folder that holds no adapter."""
    if not (Path(folder) / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no adapter_config.json and so no adapter to start from")


def check_output(output: Path, inputs: Mapping[str, Path | str | None], resume: bool | str | None) -> None:
    """Refuse to write into the folder of another run, and to resume one that isn't there.

    Args:
        output: The folder.
        inputs: What is read, by what it is called in messages.
        resume: The checkpoint to go on from, or whether to go on from the last.

    Raises:
        FileExistsError: The folder holds a run's adapter or checkpoints, or a file that training would replace.
        FileNotFoundError: There is no checkpoint to resume from.
        ValueError: The folder is the model, the data or the adapter to start from, contains one or lies within one.
    """
    refuse_overlap({"--output_dir": output}, inputs)
    refuse_existing(output, overwrite=True)  # where it can't be written
    whole = find_whole_checkpoint(output)
    begun = (output / INITIAL_ADAPTER).is_dir()  # by a run that ended before a whole checkpoint
    cut_short = not begun and list_checkpoints(output)
    if resume is None and (whole or cut_short or (output / "adapter_config.json").exists()):
        further = "" if whole is None else ", or go on with it by --resume_from_checkpoint true"
        raise FileExistsError(f"{output} holds a run already: choose another --output_dir, remove it{further}")
    if isinstance(resume, bool) and whole is None:
        raise FileNotFoundError(
            f"{output} holds no whole checkpoint to resume from: leave --resume_from_checkpoint out"
        )
    if isinstance(resume, str) and not Path(resume).is_dir():
        raise FileNotFoundError(f"there is no checkpoint {resume} to resume from")
    if isinstance(resume, str) and not is_whole(Path(resume)):
        raise ValueError(f"{resume} was cut short or is damaged" + (f": go on from {whole}" if whole else ""))
    written = [name for name in _WRITTEN if (output / name).exists()] if resume is None and not begun else []
    if written:
        raise FileExistsError(f"{output} holds {written[0]}, which would be replaced: choose another --output_dir")


def settings_files(words: Sequence[str]) -> list[Path]:
    """The files of settings that a command line names.

    Raises:
        FileNotFoundError: One is not there.
        ValueError: One is large, or would be many times as large once its aliases are written out.
    """
    named = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    for file in map(Path, named):
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file} of settings: check --config")
        aliases = re.findall(r"\*\w", file.read_text(encoding="utf-8")) if file.stat().st_size <= _FILE_BYTES else None
        if aliases is None or len(aliases) > _ALIASES:
            raise ValueError(
                f"{file} has more than {_FILE_BYTES:,} bytes or {_ALIASES} aliases (*name): write its settings out"
            )
    return [Path(name) for name in named]


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """The options by their names with underscores, those of the command line before those of its file."""
    given: dict[str, Any] = {}
    for file in settings_files(words):
        import yaml  # here, as few calls need it

        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is no YAML: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds no settings: write one a line, such as learning_rate: 1.0e-4")
        given |= content
    for place, word in enumerate(words):
        if word.startswith("--"):
            name, is_there, value = word[2:].partition("=")
            following = words[place + 1] if place + 1 < len(words) and not words[place + 1].startswith("--") else True
            given[name.replace("-", "_")] = value if is_there else following
    return given


def _find(given: Mapping[str, Any], name: str) -> Any:
    """The value of an option, whose name may be cut short where no other begins so, as argparse allows."""
    short = (value for key, value in given.items() if len(key) > 3 and name.startswith(key))
    return given[name] if name in given else next(short, None)
