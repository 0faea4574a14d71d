"""The command ``lora-da-bench compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_da_bench.cli.early_checks import check_early
from lora_da_bench.cli.flags import add_flags, experiment_of_flags, show_flag
from lora_da_bench.cli.rows import show_rows
from lora_da_bench.cli.stopping import keeping
from lora_da_bench.experiment.description import Experiment, load_experiment
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.record import RunRecord, load_records
from lora_da_bench.experiment.schedule import list_later_stages, plan_runs


@add_flags
def compare(
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file that describes the experiment, in place of all flags from --name on; see configs/."
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
        typer.Option("--dry-run", help="Only say how many runs are missing and, by a trial of two steps, how long."),
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Render the report from the runs that are there.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Spread the runs over the GPUs or machines of a Ray cluster.")
    ] = False,
    **flags: Any,
) -> None:
    """Compare initialisations so that a sceptic believes it.

    Every method gets the same grid of learning rates, budget, batches and seeds; the validation split selects, and what
    is reported comes from fresh seeds and the test split. Stopped at any moment, the same command goes on.

    lora-da-bench compare --model smollm2 --train gsm8k/train.jsonl --test gsm8k/test.jsonl --option prompt=question
    --option completion=answer --methods lora,lora-da
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if list_ and config is None and not given:
        _show_methods()
        return
    if config is not None and given:
        flag = show_flag(next(iter(given)))
        raise typer.BadParameter(
            f"--config describes the whole experiment, so --{flag} can't be given with it: write it into the file"
        )
    experiment = experiment_of_flags(given) if config is None else load_experiment(config)
    folder = results / experiment.name
    if report_only:
        _report(experiment, folder)
    elif list_:
        _show_runs(experiment, folder)
    else:
        with keeping():
            _work(experiment, folder, only or [], dry_run=dry_run, ray=ray)


def _work(experiment: Experiment, folder: Path, only: list[str], *, dry_run: bool, ray: bool) -> None:
    check_early(experiment, folder, only, ray=ray)
    # Here, as they bring torch, transformers and PEFT with them, which --help need not wait for.
    from lora_da_bench.compare import check_experiment, compare, estimate_seconds, list_missing_runs
    from lora_da_bench.running.progress import say_duration

    records = load_records(folder / RUNS)
    check_experiment(experiment, folder, only)
    todo = list_missing_runs(experiment, records, only)
    print(f"{experiment.name}: {len(records)} runs are there, {len(todo)} are next")
    if todo and ray and not records:
        print("how long they take is told once the first is finished: the cluster does the work, not this machine")
    elif todo:
        if not records:
            print("how long they take is measured by two steps of plain LoRA:", flush=True)
        seconds = estimate_seconds(experiment, records, todo, folder)
        trial = "" if records else ", by two steps of plain LoRA: initialisations come on top"
        print(f"roughly {say_duration(seconds)} for these, one after another{trial}")
    if todo:
        _show_later(experiment, records)
    if not dry_run:
        written = compare(experiment, folder, only=only, on_ray=ray)
        _show_report(experiment, folder, written=written)


def _report(experiment: Experiment, folder: Path) -> None:
    from lora_da_bench.compare import report_comparison

    if not load_records(folder / RUNS):
        raise ValueError(f"there are no runs in {folder / RUNS}: check --results and the experiment's name")
    report_comparison(experiment, folder)
    _show_report(experiment, folder, written=True)


def _show_report(experiment: Experiment, folder: Path, *, written: bool) -> None:
    """What the comparison shows, and where its report is."""
    from lora_da_bench.report.terminal import print_verdict

    report = folder / "report.md"
    print_verdict(load_records(folder / RUNS), experiment)
    if written:
        print(f"\nwritten: {report}, {report.with_suffix('.html')}")
    else:
        print(f"\nno run was missing, so {report} stays as it is; --report-only writes it again")


def _show_runs(experiment: Experiment, folder: Path) -> None:
    records = load_records(folder / RUNS)
    status = {record.run: record.status for record in records}
    show_rows(("run", "status"), [(run.name, status.get(run, "to do")) for run in plan_runs(experiment, records)])
    _show_later(experiment, records)


def _show_later(experiment: Experiment, records: Sequence[RunRecord]) -> None:
    stages = list_later_stages(experiment, records)
    if stages:
        print(f"later, as the results of these decide: {'; '.join(stages)}")


def _show_methods() -> None:
    from lora_da_bench.methods.registry import METHODS

    rows = [(name, "yes" if method.uses_data else "", method.description) for name, method in METHODS.items()]
    show_rows(("method", "looks at data", "what it does"), rows)
    print("Behind any of them: +frozen-a trains B alone (LoRA-FA).")
