"""A comparison from its description to its report: the work behind ``lora-da-bench compare``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lora_da.loading import load_rows
from lora_da.system.locks import lock_folder
from lora_da_bench.experiment.description import VANILLA, Experiment, expand_path
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.fixed_description import check_description, fix_description
from lora_da_bench.experiment.names import check_names
from lora_da_bench.experiment.record import Run, RunRecord, load_records
from lora_da_bench.experiment.schedule import plan_runs
from lora_da_bench.experiment.splits import load_splits
from lora_da_bench.methods.registry import get_method
from lora_da_bench.report.writing import has_report, write_report
from lora_da_bench.running.progress import print_progress, print_stage, silence_bars
from lora_da_bench.running.training_run import carry_out_run
from lora_da_bench.tasks.registry import make_task

_ATTEMPTS = 2  # of a run that ends with an error: a machine that was busy for a moment must not select a learning rate


def compare(experiment: Experiment, folder: Path, *, only: Collection[str] = (), on_ray: bool = False) -> bool:
    """Carry out every run that is still missing, or of some methods ``only``, and write the report.

    Where nothing was missing, a report of all the runs that are there stays as it is.

    Each finished run is a file in ``folder/runs``; the next call goes on from what is there. Runs that failed with an
    error are tried once more, and again by the next call.

    Returns:
        Whether the report was written.

    Raises:
        BlockingIOError: Another process carries out runs in the folder.
        ValueError: A method is unknown, a test row can't be graded, the folder holds another experiment, or it is or
            lies within the model or the data.
    """
    check_experiment(experiment, folder, only)
    with lock_folder(folder):
        return _compare(experiment, folder, only, on_ray=on_ray)


def _compare(experiment: Experiment, folder: Path, only: Collection[str], *, on_ray: bool) -> bool:
    fix_description(experiment, folder)
    attempts: Counter[Run] = Counter()
    while runs := list_missing_runs(experiment, load_records(folder / RUNS), only, _given_up(attempts)):
        total = attempts.total() + len(runs)
        for record in _carried_out(runs, experiment, folder, on_ray=on_ray):
            record.save(folder / RUNS)
            attempts[record.run] += 1
            print_progress(record, attempts.total(), total)
    if not attempts and has_report(load_records(folder / RUNS), folder):
        return False
    report_comparison(experiment, folder)
    return True


def report_comparison(experiment: Experiment, folder: Path) -> list[Path]:
    """Write the report from the records that are there; see :func:`write_report`.

    Raises:
        ValueError: The folder holds another experiment, or a method is unknown.
    """
    check_description(experiment, folder)
    descriptions = {name: get_method(name).description for name in experiment.methods}
    return write_report(load_records(folder / RUNS), experiment, folder, descriptions)


def check_experiment(experiment: Experiment, folder: Path, only: Collection[str] = ()) -> None:
    """Find out now, and not after the sweep, what could not be carried out; see :func:`compare`."""
    for name in experiment.methods:
        get_method(name)
    check_names(experiment, folder, only)
    check_description(experiment, folder)
    with silence_bars():
        _check_data(experiment)


def _check_data(experiment: Experiment) -> None:
    description = experiment.task
    task, splits = make_task(description.kind, description.options), load_splits(description)
    for path, rows in ((description.train, splits.train), (description.test, splits.test)):
        for option in ("prompt", "completion", "text", "pair", "label", "choices"):
            column = getattr(task, option, None)
            if column is not None and column not in rows.column_names:
                raise ValueError(
                    f"{path} has no column {column!r}, but {', '.join(rows.column_names)}: name the right one by "
                    f"task.options.{option} (--option {option}=COLUMN)"
                )
    if experiment.forgetting is not None:  # measured in the final runs alone
        load_rows(expand_path(experiment.forgetting.data), "test")
    if description.accuracy:
        try:
            task.check(splits.test)
        except ValueError as error:
            raise ValueError(
                f"{description.test}: {error} Or set task.accuracy = false (--no-accuracy), and only losses are "
                "compared."
            ) from error


def list_missing_runs(
    experiment: Experiment, records: Sequence[RunRecord], only: Collection[str] = (), given_up: Collection[Run] = ()
) -> list[Run]:
    """List the runs to carry out next: planned, of the wanted methods, and without a result.

    A run that failed with an error has none until it is given up, so that nothing is selected before.
    """
    settled = [record for record in records if record.status != "failed" or record.run in given_up]
    done = {record.run for record in settled}
    wanted = set(only) or set(experiment.methods)
    return [
        run for run in plan_runs(experiment, settled) if run not in done and (run.charged_for or run.method) in wanted
    ]


def _given_up(attempts: Counter[Run]) -> set[Run]:
    return {run for run, count in attempts.items() if count >= _ATTEMPTS}


def estimate_seconds(experiment: Experiment, records: Sequence[RunRecord], runs: Sequence[Run], folder: Path) -> float:
    """Estimate how long some runs take, from finished runs or, before the first, from a trial of two steps.

    Raises:
        ValueError: The trial was refused something that is wrong in the description; so it is with other exceptions
            that are the user's to mend.
        RuntimeError: The trial failed in another way.
    """
    known = [record for record in records if record.status == "success"]
    if not known:
        first = runs[0]
        trial = Run("sweep", VANILLA, first.rank, first.learning_rate, first.seed, 2)
        try:
            known = [carry_out_run(trial, experiment, folder, raising=True, tell=print_stage)]
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
        from lora_da_bench.running.ray_cluster import carry_out_on_ray

        yield from carry_out_on_ray(runs, experiment, folder)
    else:
        for run in runs:
            yield carry_out_run(run, experiment, folder)
