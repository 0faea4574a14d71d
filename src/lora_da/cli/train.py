"""``lora-da train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_da.cli import options


def train(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    output: options.Output,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Start from this adapter folder, with its shape."),
    ] = None,
    init: Annotated[str, typer.Option(help="Without --adapter: lora (PEFT's random init) or lora-da.")] = "lora-da",
    eval_data: Annotated[
        str | None, typer.Option(help="Held-out data; without them some rows of the data are set aside.")
    ] = None,
    eval_split: Annotated[str, typer.Option(help="The split of held-out data from Hugging Face.")] = "test",
    split: options.Split = "train",
    prompt_column: options.PromptColumn = None,
    completion_column: options.CompletionColumn = None,
    text_column: options.TextColumn = None,
    messages_column: options.MessagesColumn = None,
    max_length: options.MaxLength = 1024,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", "--lr", help="Peak of the cosine schedule, after 3 % of warm-up.")
    ] = 1e-3,
    steps: Annotated[int, typer.Option(help="Optimiser steps; 0 trains for --epochs.")] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the data, without --steps.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    held_out: Annotated[int, typer.Option(help="Rows to set aside, without --eval-data.")] = 200,
    evaluations: Annotated[int, typer.Option(help="How often the held-out loss is measured along the way.")] = 5,
    rank: options.Rank = 8,
    alpha: options.Alpha = 16,
    rslora: options.Rslora = True,
    target_modules: options.TargetModules = "all-linear",
    examples: options.Examples = 256,
    preset: options.Preset = "default",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in the output folder.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Fine-tune a LoRA adapter on data, with transformers' Trainer; write it, its loss curve and a record."""
    from lora_da.loading.data import Columns
    from lora_da.workflows.init import preset_config
    from lora_da.workflows.runs import Start, train_adapter
    from lora_da.workflows.sources import AdapterShape, Calibration, DataSource, ModelSource
    from lora_da.workflows.training import TrainingSettings

    if adapter is not None:
        own = ("init", "rank", "alpha", "rslora", "target_modules", "examples", "preset")
        given = [name for name in own if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
        if given:
            raise typer.BadParameter(
                f"an --adapter has its own shape and start: leave --{given[0].replace('_', '-')} out, or the adapter"
            )
    columns = Columns(prompt_column, completion_column, text_column, messages_column)
    record = train_adapter(
        ModelSource(model, dtype, device, revision, trust_remote_code),
        DataSource(data, split, columns, max_length),
        TrainingSettings(learning_rate, steps, epochs, batch_size, evaluations, held_out, seed),
        output,
        Start(
            adapter,
            init,
            AdapterShape(rank, alpha, rslora, target_modules),
            preset_config(preset, seed),
            Calibration(examples, batch_size, seed),
        ),
        eval_data=None if eval_data is None else DataSource(eval_data, eval_split, columns, max_length),
        resume=resume,
        overwrite=overwrite,
    )
    print("held-out loss per token (nats):")
    print(f"  base model: {record.loss_base:.4f}")
    print(f"  at the start: {record.held_out[0][1]:.4f}")
    for step, loss in record.held_out[1:]:
        print(f"  step {step:5d}: {loss:.4f}")
    print(f"written: {output / 'adapter'}, {output / 'loss.png'}, {output / 'training.json'}")
