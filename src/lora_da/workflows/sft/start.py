"""The adapter that a run of ``lora-da sft`` starts from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict
from trl import get_peft_config

from lora_da.api import initialize_from_trainer
from lora_da.report.initialization import InitializationReport
from lora_da.system.files import atomic_path
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.calibration_sample import warn_of_few
from lora_da.workflows.job import writing_together
from lora_da.workflows.settings import preset_config
from lora_da.workflows.sft.arguments import SftArguments
from lora_da.workflows.sft.first_look import INITIAL_ADAPTER, check_adapter

_FROZEN = "A is frozen in training (--lora_da_freeze_a): B alone moves from here"


def adapter_config(arguments: SftArguments) -> Any:
    """Make the adapter's configuration: that of the adapter to start from, or as the options say.

    Raises:
        FileNotFoundError: The folder to start from holds no adapter.
    """
    folder = arguments.initialization.lora_da_adapter
    if folder is None:
        return get_peft_config(arguments.model)
    check_adapter(folder)
    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = False
    return config


def prepare_start(trainer: Any, arguments: SftArguments) -> InitializationReport | None:
    """Bring a trainer's fresh adapter to where training starts, and keep that in the output folder.

    Returns:
        What an initialisation did; None if the adapter comes from a folder, or stays as PEFT has made it.

    Raises:
        ValueError: The adapter can't be initialised, or does not fit the model.
    """
    own = arguments.initialization
    kept = arguments.output / INITIAL_ADAPTER
    if own.lora_da_adapter is not None:
        _load(trainer, Path(own.lora_da_adapter))
        with writing_together() as writes:
            if writes:
                with atomic_path(kept, overwrite=True) as folder:
                    shutil.copytree(own.lora_da_adapter, folder)
        return None
    if not own.lora_da_init:
        return None
    config, progress = preset_config(own.lora_da_preset, arguments.training.seed), not arguments.training.disable_tqdm
    report = initialize_from_trainer(trainer, config, max_examples=own.lora_da_examples, progress=progress)
    warn_of_few(report.examples, own.lora_da_examples, "the training data gave {} examples")
    if own.lora_da_freeze_a:
        report = dataclasses.replace(report, notices=(*report.notices, _FROZEN))
    base = trainer.model.config._name_or_path
    with writing_together() as writes:
        if writes:
            save_adapter(
                trainer.model,
                kept,
                base=base,
                revision=None if Path(base).is_dir() else arguments.model.model_revision,
                report=report,
                provenance=_provenance(arguments),
                overwrite=True,  # only a run that ended before its first checkpoint can have left one
            )
    return report


def _load(trainer: Any, folder: Path) -> None:
    """Read an adapter's weights into the one that was made by its configuration, in the precision that TRL chose.

    PEFT has warned by then if the adapter was made on another model.
    """
    fault = f"the adapter {folder} does not fit the model {trainer.model.config._name_or_path}"
    try:
        result: Any = set_peft_model_state_dict(trainer.model, load_peft_weights(str(folder), device="cpu"))
    except RuntimeError as error:  # of other shapes
        raise ValueError(f"{fault}: {error}") from error
    if result.unexpected_keys:
        raise ValueError(f"{fault}, which has no layer for {result.unexpected_keys[0]}")


def _provenance(arguments: SftArguments) -> dict[str, Any]:
    own, script, training = arguments.initialization, arguments.script, arguments.training
    return {
        "data": [entry.path for entry in arguments.mixture.datasets] or script.dataset_name,
        "split": script.dataset_train_split,
        "preset": own.lora_da_preset,
        "freeze_a": own.lora_da_freeze_a,
        "calibration": {"examples": own.lora_da_examples, "seed": training.seed},
        "max_length": training.max_length,
        "packing": training.packing,
    }
