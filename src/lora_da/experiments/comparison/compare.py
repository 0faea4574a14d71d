"""A comparison from its description to its report: the work behind ``lora-da compare``."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lora_da.experiments.comparison.execute import execute
from lora_da.experiments.comparison.experiment import Experiment
from lora_da.experiments.comparison.plan import planned_runs
from lora_da.experiments.comparison.record import Run, RunRecord, load_records
from lora_da.experiments.comparison.report import write_report
from lora_da.experiments.comparison.splits import load_splits
from lora_da.experiments.methods.registry import get_method
from lora_da.experiments.tasks.registry import make_task
from lora_da.files import write_text

RUNS = "runs"
_DESCRIPTION = "experiment.json"


def compare(experiment: Experiment, folder: Path, *, only: Collection[str] = (), on_ray: bool = False) -> None:
    """Carry out every run that is still missing, and write the report.

    Each finished run is a file in ``folder/runs``; the next call goes on from what is there. Runs that failed with an
    error are tried once more by each call.

    Args:
        experiment: The description.
        folder: The experiment's folder.
        only: Carry out the runs of these methods alone; the report then says what is missing.
        on_ray: Spread the runs over the GPUs or machines of a Ray cluster.

    Raises:
        ValueError: A method is unknown, a test row can't be graded, or the folder holds another experiment.
    """
    for name in {*experiment.methods, *only}:
        get_method(name)
    unknown = sorted(set(only) - set(experiment.methods))
    if unknown:
        raise ValueError(f"{unknown[0]} is none of the experiment's methods: {', '.join(experiment.methods)}")
    if experiment.task.accuracy:  # found out now, not after the sweep
        make_task(experiment.task.kind, experiment.task.options).check(load_splits(experiment.task).test)
    _keep_description(experiment, folder)
    tried: set[Run] = set()
    with tqdm(desc="comparison", unit="run") as progress:
        while runs := missing_runs(experiment, load_records(folder / RUNS), only, tried):
            progress.total = progress.n + len(runs)
            for record in _carried_out(runs, experiment, folder, on_ray=on_ray):
                record.save(folder / RUNS)
                tried.add(record.run)
                progress.update()
                progress.set_postfix_str(_outcome(record))
    write_report(load_records(folder / RUNS), experiment, folder)


def missing_runs(
    experiment: Experiment, records: Sequence[RunRecord], only: Collection[str] = (), tried: Collection[Run] = ()
) -> list[Run]:
    """The runs to carry out next: planned, of the wanted methods, and not finished or tried already."""
    done = {record.run for record in records if record.status != "failed"} | set(tried)
    wanted = set(only) or set(experiment.methods)
    return [
        run
        for run in planned_runs(experiment, records)
        if run not in done and (run.charged_for or run.method) in wanted
    ]


def estimated_seconds(experiment: Experiment, records: Sequence[RunRecord], runs: Sequence[Run], folder: Path) -> float:
    """Roughly how long some runs take, from runs that are finished or, before the first, from a trial of two steps."""
    known = [record for record in records if record.status == "success"]
    if not known:
        first = runs[0]
        trial = execute(Run("sweep", "lora", first.rank, first.learning_rate, first.seed, 2), experiment, folder)
        if trial.error is not None:
            raise ValueError(f"a trial run of two steps failed: {trial.error}")
        known = [trial]
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
        from lora_da.experiments.comparison.cluster import executed_on_ray

        yield from executed_on_ray(runs, experiment, folder)
    else:
        for run in runs:
            yield execute(run, experiment, folder)


def _outcome(record: RunRecord) -> str:
    if record.status == "success":
        return f"{record.run.name}: validation loss {record.metrics['validation_loss']:.4f}"
    return f"{record.run.name}: {record.status}" + (f" ({record.error})" if record.error else "")


def _keep_description(experiment: Experiment, folder: Path) -> None:
    """Write the description on the first call; afterwards it may gain methods, and nothing else may change."""
    path = folder / _DESCRIPTION
    content = json.loads(json.dumps(dataclasses.asdict(experiment)))
    now = time.strftime("%Y-%m-%d")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Any] = {"fixed": now, "experiment": content, "methods_added": []}
    else:
        kept = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(
            name for name in content if name != "methods" and content[name] != kept["experiment"].get(name)
        )
        if changed or set(kept["experiment"]["methods"]) - set(content["methods"]):
            raise ValueError(
                f"{folder} holds runs of another experiment: it differs in {', '.join(changed or ['methods'])}. What "
                "was fixed before the first result stays; give the new experiment another name"
            )
        added = [name for name in content["methods"] if name not in kept["experiment"]["methods"]]
        if not added:
            return
        kept["methods_added"].append({"date": now, "methods": added})
        kept["experiment"] = content
    write_text(path, json.dumps(kept, indent=1) + "\n", overwrite=True)
