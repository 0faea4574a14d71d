"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="A local folder, a Hugging Face id, or a GGUF file.", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        help="A JSONL, CSV, TSV or Parquet file or a Hugging Face data set (NAME or NAME:CONFIGURATION), with columns "
        "messages, or prompt and completion, or text.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(help="The split of a Hugging Face data set.")]
PromptColumn = Annotated[str | None, typer.Option(help="The column with the prompt, if named otherwise.")]
CompletionColumn = Annotated[str | None, typer.Option(help="The column with the answer; the loss is taken there only.")]
TextColumn = Annotated[str | None, typer.Option(help="The column with whole texts; the loss is taken everywhere.")]
MessagesColumn = Annotated[str | None, typer.Option(help="The column with conversations, if named otherwise.")]
MaxLength = Annotated[int, typer.Option(help="Longer examples are cut after this many tokens.")]
Rank = Annotated[int, typer.Option(help="LoRA's rank r.")]
Alpha = Annotated[int, typer.Option(help="LoRA's alpha; the update is scaled by alpha/√r, without rslora alpha/r.")]
Rslora = Annotated[bool, typer.Option("--rslora/--no-rslora", help="Rank-stabilised scaling.")]
TargetModules = Annotated[str, typer.Option(help="all-linear, or names of layers separated by commas.")]
Examples = Annotated[int, typer.Option(min=1, help="Calibration examples, drawn at random from the data.")]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Examples a batch. It changes memory and speed, not the statistics.")
]
Preset = Annotated[
    str,
    typer.Option(
        help="default: the best measured so far; paper: as the paper derives it; released: what the authors' released "
        "configuration computes."
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Precision of the base model: auto (as saved), float32, bfloat16, float16, or 8bit and 4bit (as in QLoRA; "
        "they need bitsandbytes)."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; the default is a GPU where there is one.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Output = Annotated[Path, typer.Option(help="The folder to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there already.")]
MemoryBudget = Annotated[
    str,
    typer.Option(
        help="What the statistics may take of the device's memory, such as 8GiB; auto is 0.7 of what is free. What "
        "does not fit goes to the host's memory or is collected in several passes, with the same result."
    ),
]
