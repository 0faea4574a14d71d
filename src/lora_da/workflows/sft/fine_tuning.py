"""A fine-tuning run by TRL, from an adapter that LoRA-DA initialises: the work behind ``lora-da sft``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed

from lora_da.adapter.frozen_a import freeze_a
from lora_da.adapter.target_names import check_target_names
from lora_da.loading.gguf import convert_gguf
from lora_da.loading.model_check import check_model_path
from lora_da.loading.model_source import ModelSource
from lora_da.loading.positions import check_positions, find_position_count
from lora_da.loading.vocabulary import check_vocabulary
from lora_da.system.locks import lock_folder
from lora_da.workflows.checkpoints import find_whole_checkpoint, list_checkpoints
from lora_da.workflows.finite_trainer import FiniteTrainer
from lora_da.workflows.job import hide_bars
from lora_da.workflows.sft.arguments import SftArguments
from lora_da.workflows.sft.base_model import load_base, load_processor
from lora_da.workflows.sft.frozen_card import FrozenATrainer
from lora_da.workflows.sft.progress import show_progress
from lora_da.workflows.sft.splits import load_splits
from lora_da.workflows.sft.start import adapter_config, prepare_start
from lora_da.workflows.sft.trained_adapter import save_trained, sweep_trained


def fine_tune(arguments: SftArguments) -> None:
    """Initialise an adapter and train it, as TRL's own script does but for the initialisation.

    The output folder receives the trained adapter, TRL's checkpoints, and the adapter that training started from.

    Raises:
        BlockingIOError: Another process trains into the output folder.
        FileExistsError: The output folder holds another run, and it is not to be resumed.
        ValueError: The data or the settings can't be used.
    """
    sweep_trained(arguments.output)
    arguments.check_output()
    with lock_folder(arguments.output, wanted=arguments.training.process_index == 0):
        _fine_tune(arguments)


def _fine_tune(arguments: SftArguments) -> None:
    training = arguments.training
    arguments.check_output()  # as it is now
    set_seed(training.seed)  # of the split and of LoRA's random matrices, the same in all processes
    if training.process_index > 0:
        hide_bars()
    trainer = make_trainer(arguments)
    show_progress(trainer)
    tell = trainer.accelerator.print
    if training.resume_from_checkpoint is None:
        report = prepare_start(trainer, arguments)
        if report is not None:
            tell(report)
    if arguments.initialization.lora_da_freeze_a:
        model: Any = trainer.model
        tell(f"A is frozen: {freeze_a(model):,} parameters are trained")
    trainer.train(resume_from_checkpoint=_whole_checkpoint(arguments))
    save_trained(trainer, arguments.output)
    tell(f"written: {ModelSource(str(arguments.model.model_name_or_path)).list_outputs(arguments.output)}")
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=arguments.script.dataset_name)
        tell(f"pushed: https://huggingface.co/{trainer.hub_model_id}")
    trainer.accelerator.end_training()  # the trackers and the process group


def _whole_checkpoint(arguments: SftArguments) -> str | None:
    """The checkpoint to go on from: that which is named, or the last one that was written to its end."""
    resume: Any = arguments.training.resume_from_checkpoint
    if not isinstance(resume, bool):
        return resume  # type: ignore[no-any-return]
    last, found = list_checkpoints(arguments.output)[0], find_whole_checkpoint(arguments.output)
    if found != last:
        warnings.warn(f"{last} was cut short or is damaged; the run goes on from {found}", stacklevel=2)
    return str(found)


def make_trainer(arguments: SftArguments) -> FiniteTrainer:
    """Make TRL's trainer with its data, its model and a fresh adapter.

    Raises:
        ValueError: A row of the data can't be used, weights of the model are not there, or the options name layers that
            it does not have.
    """
    training, model = arguments.training, arguments.model
    given: Any = training.model_init_kwargs or {}
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    } | given
    with training.main_process_first(local=False, desc="preparing the model"):
        name = _model_name(arguments)
    processor = load_processor(name, training)
    train, held_out = load_splits(arguments, processor)
    base, adapter = load_base(name, training, model), adapter_config(arguments)
    check_target_names(base, adapter)
    kind = FrozenATrainer if arguments.initialization.lora_da_freeze_a else FiniteTrainer
    trainer = kind(
        model=base,
        args=training,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=processor,
        peft_config=adapter,
    )
    rows: Any = trainer.train_dataset
    if isinstance(rows, datasets.Dataset) and "input_ids" in rows.column_names:  # else they are tokenised in training
        check_vocabulary(base, getattr(processor, "tokenizer", processor), rows)
        if find_position_count(base) is not None:  # reading the lengths of all examples takes its time
            check_positions(base, _longest(rows), "--max_length")
    return trainer


def _longest(rows: datasets.Dataset) -> int:
    """Tokens of the longest example."""
    packed = "seq_lengths" in rows.column_names
    segments = rows["seq_lengths"][:] if packed else [[len(ids)] for ids in rows["input_ids"]]
    return max(map(max, segments), default=0)


def _model_name(arguments: SftArguments) -> str:
    """What transformers loads: a folder or an id; a GGUF file is converted into a folder beside the output first."""
    source = ModelSource(str(arguments.model.model_name_or_path))
    check_model_path(source.path)
    folder = source.converted_folder(arguments.output)
    return source.path if folder is None else str(convert_gguf(Path(source.path), folder))
