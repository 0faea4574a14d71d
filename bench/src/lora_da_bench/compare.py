"""A comparison from its description to its report: the work behind ``lora-da compare``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lora_da.loading.rows import load_rows
from lora_da_bench.experiment.description import check_description, keep_description
from lora_da_bench.experiment.experiment import Experiment, expanded
from lora_da_bench.experiment.record import Run, RunRecord, load_records
from lora_da_bench.experiment.schedule import planned_runs
from lora_da_bench.experiment.splits import Splits, load_splits
from lora_da_bench.methods.registry import get_method
from lora_da_bench.report.report import write_report
from lora_da_bench.running.execution import execute
from lora_da_bench.running.progress import Progress
from lora_da_bench.running.quiet import quiet
from lora_da_bench.tasks.registry import make_task
from lora_da_bench.tasks.task import Task

RUNS = "runs"
_ATTEMPTS = 2  # of a run that ends with an error: a machine that was busy for a moment must not select a learning rate


def compare(experiment: Experiment, folder: Path, *, only: Collection[str] = (), on_ray: bool = False) -> None:
    """Carry out every run that is still missing, and write the report.

    Each finished run is a file in ``folder/runs``; the next call goes on from what is there. Runs that failed with an
    error are tried once more, and again by the next call.

    Args:
        experiment: The description.
        folder: The experiment's folder.
        only: Carry out the runs of these methods alone; the report then says what is missing.
        on_ray: Spread the runs over the GPUs or machines of a Ray cluster.

    Raises:
        ValueError: A method is unknown, a test row can't be graded, or the folder holds another experiment.
    """
    check_experiment(experiment, folder, only)
    keep_description(experiment, folder)
    attempts: Counter[Run] = Counter()
    with Progress() as progress:
        while runs := missing_runs(experiment, load_records(folder / RUNS), only, _given_up(attempts)):
            progress.expect(len(runs))
            for record in _carried_out(runs, experiment, folder, on_ray=on_ray):
                record.save(folder / RUNS)
                attempts[record.run] += 1
                progress.finished(record)
    write_report(load_records(folder / RUNS), experiment, folder)


def check_experiment(experiment: Experiment, folder: Path, only: Collection[str] = ()) -> None:
    """Find out now, and not after the sweep, what could not be carried out; see :func:`compare`."""
    for name in experiment.methods:
        get_method(name)
    unknown = sorted(set(only) - set(experiment.methods))
    if unknown:
        raise ValueError(f"{unknown[0]} is none of the experiment's methods: {', '.join(experiment.methods)}")
    check_description(experiment, folder)
    task = make_task(experiment.task.kind, experiment.task.options)
    with quiet():
        splits = load_splits(experiment.task)
        if experiment.forgetting is not None:  # measured in the final runs alone
            load_rows(expanded(experiment.forgetting.data), "test")
    _check_columns(experiment, task, splits)
    if experiment.task.accuracy:
        try:
            task.check(splits.test)
        except ValueError as error:
            raise ValueError(
                f"{experiment.task.test}: {error} Or set task.accuracy = false (--no-accuracy), and only losses are "
                "compared."
            ) from error


def _check_columns(experiment: Experiment, task: Task, splits: Splits) -> None:
    for path, rows in ((experiment.task.train, splits.train), (experiment.task.test, splits.test)):
        for option in ("prompt", "completion", "text", "pair", "label", "choices"):
            column = getattr(task, option, None)
            if column is not None and column not in rows.column_names:
                raise ValueError(
                    f"{path} has no column {column!r}, but {', '.join(rows.column_names)}: name the right one by "
                    f"task.options.{option} (--option {option}=COLUMN)"
                )


def missing_runs(
    experiment: Experiment, records: Sequence[RunRecord], only: Collection[str] = (), given_up: Collection[Run] = ()
) -> list[Run]:
    """The runs to carry out next: planned, of the wanted methods, and without a result.

    A run that failed with an error has none until it is given up, so that nothing is selected before.
    """
    settled = [record for record in records if record.status != "failed" or record.run in given_up]
    done = {record.run for record in settled}
    wanted = set(only) or set(experiment.methods)
    return [
        run
        for run in planned_runs(experiment, settled)
        if run not in done and (run.charged_for or run.method) in wanted
    ]


def _given_up(attempts: Counter[Run]) -> set[Run]:
    return {run for run, count in attempts.items() if count >= _ATTEMPTS}


def estimated_seconds(experiment: Experiment, records: Sequence[RunRecord], runs: Sequence[Run], folder: Path) -> float:
    """Roughly how long some runs take, from runs that are finished or, before the first, from a trial of two steps.

    Raises:
        ValueError: The trial was refused something that is wrong in the description; so it is with other exceptions
            that are the user's to mend.
        RuntimeError: The trial failed in another way.
    """
    known = [record for record in records if record.status == "success"]
    if not known:
        first = runs[0]
        trial = Run("sweep", "lora", first.rank, first.learning_rate, first.seed, 2)
        try:
            known = [execute(trial, experiment, folder, raising=True)]
        except (ValueError, OSError, ImportError):
            raise
        except Exception as error:
            raise RuntimeError(f"a trial run of two steps failed: {type(error).__name__}: {error}") from error
    total = 0.0
    for run in runs:
        alike = [record for record in known if record.run.stage == run.stage] or known
        around = [_figure(record, "wall_seconds") - _figure(record, "train_seconds") for record in alike]
        step = [_figure(record, "train_seconds") / record.run.steps for record in alike]
        total += sum(around) / len(around) + run.steps * sum(step) / len(step)
    return total


def _figure(record: RunRecord, name: str) -> float:
    return float(record.metrics[name] or 0.0)


def _carried_out(runs: Sequence[Run], experiment: Experiment, folder: Path, *, on_ray: bool) -> Iterator[RunRecord]:
    if on_ray:
        from lora_da_bench.running.cluster import executed_on_ray

        yield from executed_on_ray(runs, experiment, folder)
    else:
        for run in runs:
            yield execute(run, experiment, folder)
