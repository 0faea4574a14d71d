"""``lora-da compare``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_da.cli import options

if TYPE_CHECKING:
    from lora_da_bench.experiment.experiment import Experiment

_NOT_OF_THE_EXPERIMENT = ("config", "results", "only", "list_", "dry_run", "report_only", "ray")


def compare(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML or YAML file that describes the experiment; see configs/. Instead of the flags from --name on."
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Everything is written to a folder in here named as the experiment.")
    ] = Path("results"),
    only: Annotated[list[str] | None, typer.Option(help="Carry out the runs of this method alone; repeatable.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the runs and what became of them; without an experiment, the methods.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say how many runs and, by two steps, how long; stop."),
    ] = False,
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
    validation_rows: Annotated[int, typer.Option(help="Rows of the training data that select, set aside.")] = 200,
    task: Annotated[str, typer.Option(help="generation, choice or classification.")] = "generation",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A setting of the task, such as prompt=question, completion=answer or max_length=512; repeatable.",
        ),
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy/--no-accuracy", help="Take answers at the end, and not only losses.")
    ] = True,
    methods: Annotated[str, typer.Option(help="Names separated by commas; lora is always compared with.")] = (
        "lora,pissa,lora-one,lora-da"
    ),
    rank: options.Rank = 8,
    steps: Annotated[int, typer.Option(help="Optimiser steps of every run.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    learning_rates: Annotated[
        str, typer.Option(help="The grid of every method, ascending.")
    ] = "1e-4,3e-4,1e-3,3e-3,1e-2",
    seeds: Annotated[
        str, typer.Option(help="Of the runs that select; what is reported comes from seeds 100 to 105.")
    ] = "0,1,2",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
) -> None:
    """Compare initialisations so that a sceptic believes it.

    Every method gets the same grid of learning rates, budget, batches and seeds; the validation split selects, and what
    is reported comes from fresh seeds and the test split. Stopped at any moment, the same command goes on.

    lora-da compare --model smollm2 --train gsm8k/train.jsonl --test gsm8k/test.jsonl --option prompt=question
    --option completion=answer --methods lora,lora-da
    """
    if list_ and config is None and model is None:
        _show_methods()
        return
    from lora_da_bench.experiment.experiment import experiment_from, load_experiment
    from lora_da_bench.tasks.registry import options_from_text

    if config is not None:
        _refuse_flags(ctx)
        experiment = load_experiment(config)
    else:
        for flag, value in (("--model", model), ("--train", train), ("--test", test)):
            if value is None:
                raise typer.BadParameter(f"give {flag}, or describe the whole experiment in a file and give --config")
        content: dict[str, Any] = {
            "name": name,
            "model": {"name": model, "dtype": dtype, "device": device},
            "task": {
                "kind": task,
                "train": train,
                "test": test,
                "options": options_from_text(task, option) if option else {},
                "validation_rows": validation_rows,
                "accuracy": accuracy,
            },
            "methods": list(dict.fromkeys(["lora", *(part.strip() for part in methods.split(","))])),
            "ranks": [rank],
            "protocol": {
                "steps": steps,
                "batch_size": batch_size,
                "learning_rates": _numbers("--learning-rates", learning_rates, float),
                "seeds": _numbers("--seeds", seeds, int),
            },
        }
        experiment = experiment_from(content)
    folder = results / experiment.name
    if report_only:
        _report(experiment, folder)
    elif list_:
        _show_runs(experiment, folder)
    else:
        with _stoppable():
            _work(experiment, folder, only or [], dry_run=dry_run, ray=ray)


def _refuse_flags(ctx: typer.Context) -> None:
    """A flag that the file would silently overrule is a mistake."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        given = source is not None and source.name == "COMMANDLINE"
        if given and parameter.name not in _NOT_OF_THE_EXPERIMENT:
            raise typer.BadParameter(
                f"--config describes the whole experiment, so {parameter.opts[0]} can't be given with it: write it "
                "into the file"
            )


def _numbers(flag: str, text: str, kind: Callable[[str], float]) -> list[float]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{flag} must be numbers separated by commas, not {text!r}") from error


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, and say what becomes of it."""

    def end(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as stop:
        print("\nstopped: finished runs are kept, and the same command goes on with the others", file=sys.stderr)
        raise typer.Exit(128 + (stop.args[0] if stop.args else signal.SIGINT)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(experiment: Experiment, folder: Path, only: list[str], *, dry_run: bool, ray: bool) -> None:
    from lora_da_bench.compare import RUNS, check_experiment, compare, estimated_seconds, missing_runs
    from lora_da_bench.experiment.record import load_records
    from lora_da_bench.experiment.schedule import later_stages
    from lora_da_bench.running.progress import duration

    records = load_records(folder / RUNS)
    check_experiment(experiment, folder, only)
    todo = missing_runs(experiment, records, only)
    print(f"{experiment.name}: {len(records)} runs are there, {len(todo)} are next")
    if todo and ray and not records:
        print("how long they take is told once the first is finished: the cluster does the work, not this machine")
    elif todo:
        if not records:
            print("how long they take: loading the model, and two steps of plain LoRA", flush=True)
        seconds = estimated_seconds(experiment, records, todo, folder)
        trial = "" if records else ", by two steps of plain LoRA: initialisations come on top"
        print(f"roughly {duration(seconds)} for these, one after another{trial}")
    if todo:
        _show_later(later_stages(experiment, records))
    if dry_run:
        return
    compare(experiment, folder, only=only, on_ray=ray)
    _show_verdict(folder)
    print(f"\nwritten: {folder / 'report.md'}, {folder / 'report.html'}")


def _report(experiment: Experiment, folder: Path) -> None:
    from lora_da_bench.compare import RUNS
    from lora_da_bench.experiment.description import check_description
    from lora_da_bench.experiment.record import load_records
    from lora_da_bench.report.report import write_report

    check_description(experiment, folder)
    records = load_records(folder / RUNS)
    if not records:
        raise ValueError(f"there are no runs in {folder / RUNS}: check --results and the experiment's name")
    written = write_report(records, experiment, folder)
    _show_verdict(folder)
    print(f"\nwritten: {', '.join(map(str, written))}")


def _show_verdict(folder: Path) -> None:
    """What the report begins with."""
    print((folder / "report.md").read_text(encoding="utf-8").split("\n## ", 1)[0].strip())


def _show_runs(experiment: Experiment, folder: Path) -> None:
    from lora_da.cli.show import show_table
    from lora_da_bench.compare import RUNS
    from lora_da_bench.experiment.record import load_records
    from lora_da_bench.experiment.schedule import later_stages, planned_runs

    records = load_records(folder / RUNS)
    status = {record.run: record.status for record in records}
    rows = [(run.name, status.get(run, "to do")) for run in planned_runs(experiment, records)]
    show_table(("run", "status"), rows, experiment.name, text=True)
    _show_later(later_stages(experiment, records))


def _show_later(stages: list[str]) -> None:
    if stages:
        print(f"later, as the results of these decide: {'; '.join(stages)}")


def _show_methods() -> None:
    from lora_da.cli.show import show_table
    from lora_da_bench.methods.registry import METHODS

    rows = [(name, "yes" if method.uses_data else "", method.description) for name, method in METHODS.items()]
    show_table(("method", "looks at data", "what it does"), rows, text=True)
    print("Modifiers: +frozen-a trains B alone (LoRA-FA); +rslora and +no-rslora set the scaling.")
