"""``lora-da init``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options
from lora_da.cli.early_checks import check_init
from lora_da.cli.stopping import keeping
from lora_da.loading.data.row_format import RowFormat
from lora_da.loading.model_source import ModelSource
from lora_da.workflows.settings import AdapterShape, Calibration, Outputs, preset_config


@options.with_fields
def init(
    *,
    model: ModelSource,
    data: Annotated[
        str | None,
        typer.Option(
            help="A JSONL, JSON, CSV, TSV, Parquet or text file, perhaps compressed (.gz), a folder of save_to_disk, "
            "or a Hugging Face data set (NAME or NAME:CONFIGURATION). Its columns are messages or conversations, "
            "prompt and completion, text, or instruction, input and output.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a Hugging Face data set.")] = "train",
    outputs: Outputs,
    form: RowFormat,
    shape: AdapterShape,
    calibration: Calibration,
    preset: options.Preset = options.DEFAULT_PRESET,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    statistics: Annotated[
        Path | None, typer.Option(help="Solve from this file alone; neither data nor the model's weights are read.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be read and made, with memory and time.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Save unfinished statistics to this folder; the same command then goes on from them."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Batches between two writes to --checkpoint.")] = 50,
    timeout: Annotated[
        float, typer.Option(help="Minutes that a process waits for the others, under torchrun or accelerate launch.")
    ] = 30.0,
) -> None:
    """Make a LoRA adapter for MODEL, initialised from data: an ordinary PEFT adapter folder to start training from.

    On several GPUs or machines: accelerate launch -m lora_da init MODEL …
    """
    if statistics is not None and (data is not None or dry_run or outputs.save_statistics is not None):
        raise typer.BadParameter("--statistics goes with neither --data, --dry-run nor --save-statistics")
    if statistics is None and data is None:
        raise typer.BadParameter("give --data, or --statistics of an earlier run")
    check_init(model, data, outputs, preset, statistics, checkpoint)
    from lora_da.cli.plan import show_plan
    from lora_da.loading.models import load_tokenizer
    from lora_da.pipeline.checkpoint import Checkpoint
    from lora_da.workflows.calibration_sample import read_sample
    from lora_da.workflows.init import create_adapter
    from lora_da.workflows.job import joined_job
    from lora_da.workflows.plan import plan_for_sample
    from lora_da.workflows.saved_statistics import create_adapter_from_statistics

    config = preset_config(preset, seed)
    if data is None:
        assert statistics is not None
        with keeping():
            print(create_adapter_from_statistics(model, statistics, shape, config, outputs))
        print(f"written: {model.list_outputs(outputs.output)}")
        return
    kept = "nothing is written, and the same command begins anew"
    if outputs.save_statistics is not None:
        kept = (
            f"{outputs.save_statistics} is kept if it is there already; the same command with --overwrite begins anew"
        )
    if checkpoint is not None:
        kept = f"what was read up to the last write to {checkpoint} is kept, and the same command goes on from there"
    with keeping(kept), joined_job(model.device, timeout) as own_device:
        model = dataclasses.replace(model, device=own_device)
        sample = read_sample(data, split, form, load_tokenizer(model), calibration, seed)
        if dry_run:
            show_plan(plan_for_sample(model, sample, shape, config, calibration), timed=True)
            print(f"dry run: {outputs.output} was not written")
            return
        unfinished = Checkpoint(checkpoint, checkpoint_every) if checkpoint else None
        print(create_adapter(model, sample, shape, config, calibration, outputs, checkpoint=unfinished))
        written = model.list_outputs(outputs.output)
        print(f"written: {written}; train from the adapter by `lora-da sft --lora_da_adapter`, or by plain PEFT")
        if checkpoint is not None:
            print(f"the files in {checkpoint} are not needed any more, unless other jobs use that folder")
