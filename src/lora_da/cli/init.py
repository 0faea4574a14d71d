"""``lora-da init``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options


def init(
    model: options.Model,
    output: options.Output,
    data: Annotated[str | None, options.Data.__metadata__[0]] = None,
    split: options.Split = "train",
    prompt_column: options.PromptColumn = None,
    completion_column: options.CompletionColumn = None,
    text_column: options.TextColumn = None,
    messages_column: options.MessagesColumn = None,
    max_length: options.MaxLength = 1024,
    rank: options.Rank = 8,
    alpha: options.Alpha = 16,
    rslora: options.Rslora = True,
    target_modules: options.TargetModules = "all-linear",
    examples: options.Examples = 256,
    batch_size: options.BatchSize = 8,
    preset: options.Preset = "default",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    statistics: Annotated[
        Path | None, typer.Option(help="Solve from this file alone; neither data nor the model's weights are read.")
    ] = None,
    save_statistics: Annotated[
        Path | None, typer.Option(help="Also write the statistics, to solve other ranks from later.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be read and made, with memory and time.")
    ] = False,
    memory_budget: options.MemoryBudget = "auto",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Save unfinished statistics to this folder; the same command then goes on from them."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Batches between two writes to --checkpoint.")] = 50,
    timeout: Annotated[
        float, typer.Option(help="Minutes that a process waits for the others, under torchrun or accelerate launch.")
    ] = 30.0,
    overwrite: options.Overwrite = False,
) -> None:
    """Make a LoRA adapter for MODEL, initialised from data: an ordinary PEFT adapter folder to start training from.

    On several GPUs or machines: accelerate launch -m lora_da init MODEL …
    """
    from lora_da.cli.plan import show_plan
    from lora_da.loading.data import Columns
    from lora_da.pipeline.checkpoint import Checkpoint
    from lora_da.workflows.init import (
        Resources,
        check_outputs,
        create_adapter,
        preset_config,
        resolve_adapter,
    )
    from lora_da.workflows.job import joined_job
    from lora_da.workflows.sources import AdapterShape, Calibration, DataSource, ModelSource

    source = ModelSource(model, dtype, device, revision, trust_remote_code)
    shape = AdapterShape(rank, alpha, rslora, target_modules)
    config = preset_config(preset, seed)
    calibration = Calibration(examples, batch_size, seed)
    check_outputs(output, save_statistics, overwrite=overwrite)
    if statistics is not None:
        if data is not None or dry_run or save_statistics is not None:
            raise typer.BadParameter("--statistics goes with neither --data, --dry-run nor --save-statistics")
        print(resolve_adapter(source, statistics, shape, config, output, overwrite=overwrite))
        print(f"written: {output}")
        return
    if data is None:
        raise typer.BadParameter("give --data, or --statistics of an earlier run")
    columns = Columns(prompt_column, completion_column, text_column, messages_column)
    data_source = DataSource(data, split, columns, max_length)
    if dry_run:
        from lora_da.workflows.plan import plan_initialization, this_machine, workload_of

        workload = workload_of(source, data_source, calibration)
        plan = plan_initialization(source, shape, config, workload, this_machine(device), memory_budget)
        show_plan(plan, timed=True)
        print(f"dry run: {output} was not written")
        return
    resources = Resources(memory_budget, Checkpoint(checkpoint, checkpoint_every) if checkpoint else None)
    with joined_job(device, timeout) as own_device:
        report = create_adapter(
            dataclasses.replace(source, device=own_device),
            data_source,
            shape,
            config,
            calibration,
            output,
            resources=resources,
            save_statistics_to=save_statistics,
            overwrite=overwrite,
        )
        print(report)
        print(f"written: {output}; train from it with `lora-da train`, or load it with plain PEFT")
        if checkpoint is not None:
            print(f"the files in {checkpoint} are not needed any more, unless other jobs use that folder")
