"""``lora-da compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_da.cli import options

if TYPE_CHECKING:
    from lora_da.experiments.comparison.experiment import Experiment


def compare(
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML or YAML file that describes the experiment; see configs/. Instead of the flags below."
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Everything is written to a folder in here named as the experiment.")
    ] = Path("results"),
    only: Annotated[list[str] | None, typer.Option(help="Carry out the runs of this method alone; repeatable.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the runs and what became of them; without an experiment, the methods.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many runs and how long, and stop.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Render the report from the runs that are there.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Spread the runs over the GPUs or machines of a Ray cluster.")
    ] = False,
    name: Annotated[str, typer.Option(help="The experiment's name.")] = "comparison",
    model: Annotated[
        str | None,
        typer.Option(help="A local folder, a hub id, a GGUF file, or smollm2 or minilm.", show_default=False),
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="The training data; validation rows are set aside from them.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="The test data, which only the final runs touch.")] = None,
    task: Annotated[str, typer.Option(help="generation, choice or classification.")] = "generation",
    methods: Annotated[str, typer.Option(help="Names separated by commas; lora is always compared with.")] = (
        "lora,pissa,lora-one,lora-da"
    ),
    rank: options.Rank = 8,
    steps: Annotated[int, typer.Option(help="Optimiser steps of every run.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
) -> None:
    """Compare initialisations so that a sceptic believes it.

    Every method gets the same grid of learning rates, budget, batches and seeds; the validation split selects, and what
    is reported comes from fresh seeds and the test split. Stopped at any moment, the same command goes on.
    """
    if list_ and config is None and model is None:
        _show_methods()
        return
    from lora_da.experiments.comparison.experiment import experiment_from, load_experiment

    if (config is None) == (model is None):
        raise typer.BadParameter("give either --config, or --model with --train and --test")
    if config is not None:
        experiment = load_experiment(config)
    else:
        content: dict[str, Any] = {
            "name": name,
            "model": {"name": model, "dtype": dtype, "device": device},
            "task": {"kind": task, "train": train, "test": test},
            "methods": list(dict.fromkeys(["lora", *(part.strip() for part in methods.split(","))])),
            "ranks": [rank],
            "protocol": {"steps": steps, "batch_size": batch_size},
        }
        experiment = experiment_from(content)
    folder = results / experiment.name
    _work(experiment, folder, only or [], list_=list_, dry_run=dry_run, report_only=report_only, ray=ray)


def _work(
    experiment: Experiment, folder: Path, only: list[str], *, list_: bool, dry_run: bool, report_only: bool, ray: bool
) -> None:
    from lora_da.cli.show import show_table
    from lora_da.experiments.comparison.compare import RUNS, check_experiment, compare, estimated_seconds, missing_runs
    from lora_da.experiments.comparison.description import check_description
    from lora_da.experiments.comparison.plan import planned_runs
    from lora_da.experiments.comparison.record import load_records
    from lora_da.experiments.comparison.report import write_report

    records = load_records(folder / RUNS)
    if report_only:
        check_description(experiment, folder)
        if not records:
            raise ValueError(f"there are no runs in {folder / RUNS}: check --results and the experiment's name")
        print(f"written: {', '.join(str(path) for path in write_report(records, experiment, folder))}")
        return
    if list_:
        status = {record.run: record.status for record in records}
        planned = planned_runs(experiment, records)
        show_table(("run", "status"), [(run.name, status.get(run, "to do")) for run in planned], experiment.name)
        return
    check_experiment(experiment, folder, only)
    todo = missing_runs(experiment, records, only)
    print(f"{experiment.name}: {len(records)} runs are there, {len(todo)} are next")
    if todo:
        seconds = estimated_seconds(experiment, records, todo, folder)
        print(
            f"roughly {seconds / 60:,.0f} minutes for these, one after another; later stages follow from their results"
        )
    if dry_run:
        return
    compare(experiment, folder, only=only, on_ray=ray)
    print((folder / "report.md").read_text(encoding="utf-8").split("\n## ", 1)[0].strip())
    print(f"\nwritten: {folder / 'report.md'}, {folder / 'report.html'}")


def _show_methods() -> None:
    from lora_da.cli.show import show_table
    from lora_da.experiments.methods.registry import METHODS

    show_table(("method", "what it does"), [(name, method.description) for name, method in METHODS.items()])
    print("Modifiers: +frozen-a trains B alone (LoRA-FA); +rslora and +no-rslora set the scaling.")
