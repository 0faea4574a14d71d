"""``lora-da evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lora_da.cli import options


def evaluate(
    model: options.Model,
    output: Annotated[
        Path, typer.Option(help="The JSON file to write; raw outputs go beside it as .jsonl.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Option(help="A JSONL, JSON, CSV, TSV, Parquet or text file or a Hugging Face data set."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="generation: the number after #### must be exact, as in GSM8K. choice: the likeliest of a row's "
            "candidates. classification: a classifier's accuracy, F1 and Matthews. text: loss and perplexity alone."
        ),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT adapter folder to put on the model.")] = None,
    split: options.Split = "test",
    prompt_column: options.PromptColumn = None,
    completion_column: options.CompletionColumn = None,
    text_column: options.TextColumn = None,
    pair_column: Annotated[
        str | None, typer.Option(help="classification: the column with each text's partner.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="The column with the class, or with the right candidate of a choice.")
    ] = None,
    choices_column: Annotated[
        str | None,
        typer.Option(help="choice: lists of candidates; without it, they follow “Answer format:” in the prompt."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="classification: names separated by commas, in the model's order; by default 0,1."),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Losses see so many tokens of an example; text is cut into blocks of so many.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="generation: most tokens of an answer.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many rows, or blocks of text.")] = None,
    batch_size: Annotated[
        int,
        typer.Option(help="In float32 it changes no score; compare runs in lower precision at one batch size."),
    ] = 8,
    lm_eval: Annotated[
        str | None, typer.Option(help="Also run these tasks of lm-eval, separated by commas, if it is installed.")
    ] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Measure MODEL, with an adapter or without: its loss on data, and whether its answers are right.

    lora-da evaluate MODEL --adapter run/adapter --task generation --data gsm8k/test.jsonl --prompt-column question
    --completion-column answer --output gsm8k.json

    lora-da evaluate MODEL --task choice --data commonsense/boolq/test.json --output boolq.json

    lora-da evaluate MODEL --adapter run/adapter --lm-eval hellaswag,arc_easy --output lm-eval.json
    """
    from lora_da.experiments.evaluating import TaskData, evaluate_model
    from lora_da.experiments.sources import ModelSource

    if (data is None) != (task is None):
        raise typer.BadParameter("--data and --task (generation, choice, classification or text) go together")
    given: dict[str, Any] = {
        "prompt": prompt_column,
        "completion": completion_column,
        "text": text_column,
        "pair": pair_column,
        "label": label_column,
        "choices": choices_column,
        "classes": classes and classes.split(","),
        "max_length": max_length,
        "max_new_tokens": max_new_tokens,
    }
    task_options = {name: value for name, value in given.items() if value is not None}
    content = evaluate_model(
        ModelSource(model, dtype, device, revision, trust_remote_code),
        output,
        task_data=None if data is None or task is None else TaskData(task, data, split, task_options),
        lm_eval=[] if lm_eval is None else lm_eval.split(","),
        adapter=adapter,
        batch_size=batch_size,
        limit=limit,
        overwrite=overwrite,
    )
    _show(content)
    print(f"written: {output}, {output.with_suffix('.jsonl')}")


def _show(content: dict[str, Any]) -> None:
    from lora_da.cli.show import show_table

    figures: dict[str, Any] = content.get("figures", {})
    intervals = figures.get("intervals", {})
    rows = [
        (name, f"{value:,.4f}" if isinstance(value, float) else f"{value:,}", _range(intervals.get(name)))
        for name, value in figures.items()
        if name != "intervals"
    ]
    for task, found in content.get("lm_eval", {}).get("results", {}).items():
        rows += [(f"{task}: {name}", f"{value:.4f}", "") for name, value in found.items() if isinstance(value, float)]
    columns = 3 if any(interval for *_, interval in rows) else 2
    show_table(("", "", "95 % interval")[:columns], [row[:columns] for row in rows])


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
