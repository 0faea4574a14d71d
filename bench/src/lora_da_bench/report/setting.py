"""The setting of a comparison: what was compared, its weaknesses, where its numbers come from."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_da_bench.analysis.summary import RankSummary, Summary
from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.report.page import write_table


def tabulate_setting(experiment: Experiment, records: Sequence[RunRecord]) -> str:
    """Tabulate model, task and protocol."""
    model, task, protocol = experiment.model, experiment.task, experiment.protocol
    rows_used = [record.about["rows"] for record in records if record.about.get("rows")]
    sizes = rows_used[-1] if rows_used else {"validation": task.validation_rows}
    cut: dict[str, int] = next((record.about["rows_cut"] for record in records if record.about.get("rows_cut")), {})
    rows = [
        ("model", f"{model.name}, {model.dtype}" + (f", revision {model.revision}" if model.revision else "")),
        ("task", f"{task.kind}: train {task.train}, test {task.test}" + _options(task.options)),
        ("rows", ", ".join(f"{name} {count:,}" + _cut(cut.get(name, 0)) for name, count in sizes.items())),
        ("training", f"{protocol.steps} steps of {protocol.batch_size} examples, the same batches for every method"),
        ("learning rates", _numbers(protocol.learning_rates) + f"; may grow by {protocol.growth} on each side"),
        ("seeds", f"{_numbers(protocol.seeds)} select on validation; {_numbers(protocol.fresh_seeds)} are reported"),
        ("losses measured", f"{protocol.evaluations} times along a run, and before it"),
        (
            "optimiser",
            "AdamW, no weight decay; cosine schedule after a warm-up of 3 % of the steps; gradients clipped to norm 1",
        ),
        ("calibration", f"{experiment.calibration.examples} training examples, one draw for each seed"),
        ("adapter", f"ranks {_numbers(experiment.ranks)}, on {experiment.target_modules}"),
    ]
    if experiment.forgetting is not None:
        forgetting = experiment.forgetting
        rows.append(("forgetting", f"{forgetting.data}: {forgetting.blocks} blocks of {forgetting.length} tokens"))
    return write_table(("", ""), rows, text=True)


def tabulate_methods(summary: Summary, methods: Mapping[str, str]) -> str:
    """Tabulate methods and the adapters that their runs had; values that differ between ranks in the ranks' order."""
    rows = []
    for group in zip(*(rank.methods for rank in summary.ranks), strict=True):
        facts = [[_plain(method.adapter.get(name)) for name in ("alpha", "rslora", "scaling")] for method in group]
        sizes = [f"{method.figures.get('trainable_parameters', math.nan):,.0f}" for method in group]
        columns = [*zip(*facts, strict=True), [size.replace("nan", "–") for size in sizes]]
        name = group[0].name
        rows.append((name, methods.get(name, name), *(" / ".join(dict.fromkeys(column)) for column in columns)))
    return write_table(("method", "what it is", "alpha", "rslora", "scaling", "parameters trained"), rows, text=True)


def list_shortcomings(
    summary: Summary,
    experiment: Experiment,
    records: Sequence[RunRecord] = (),
    added: Sequence[tuple[str, Sequence[str]]] = (),
) -> list[str]:
    """List where the protocol or its execution is weaker than it should be.

    The records tell whether all runs were made alike, ``added`` when which methods joined after the beginning.
    """
    found = [_sentence(text) for text in experiment.protocol.shortcomings()]
    found += [f"Added on {date}, when other methods may have had results: {', '.join(names)}." for date, names in added]
    found += _unlike(records)
    for rank in summary.ranks:
        charged = [record for record in records if record.run.stage == "compute" and record.run.rank == rank.rank]
        found += [_sentence(f"Rank {rank.rank}: {text}") for text in _shortcomings_at(rank)]
        if experiment.charge_init and not charged:
            found.append(
                f"Rank {rank.rank}: LoRA was given no method's initialisation time: none takes 1 % of the training, or "
                "those runs are to come."
            )
        found += [_sentence(f"Rank {rank.rank}: {text}") for text in rank.missing]
    return found or ["None that is known."]


def _unlike(records: Sequence[RunRecord]) -> list[str]:
    """Where runs were not made alike."""
    found = []
    for name, what in (("fingerprints", "data"), ("versions", "software"), ("machine", "machines")):
        if len(_distinct(record.about.get(name) for record in records)) > 1:
            found.append(f"The runs were not all made with the same {what}: see the provenance.")
    if any(len(orders) > 1 for orders in _orders(records).values()):
        found.append("Runs with the same seed were not all trained on the same batches: their differences mean little.")
    failed = sum(record.run.stage == "sweep" and record.status == "failed" for record in records)
    if failed:
        found.append(f"{failed} runs of the sweep failed with an error; they count as diverged in the selection.")
    return found


def _shortcomings_at(rank: RankSummary) -> list[str]:
    found = []
    below, above = rank.grown
    if below or above:
        found.append(f"the grid grew, for every method, by {below} points below and {above} above")
    for method in rank.methods:
        if method.selection is not None and method.selection.at_edge is not None:
            found.append(
                f"{method.name} is best at the {method.selection.at_edge} edge of the grid; a rate beyond could be "
                "better"
            )
        if method.unsuccessful:
            found.append(
                f"{method.unsuccessful} of {method.name}'s final runs diverged or failed, so it is not compared: to "
                "leave those out would flatter it"
            )
    if rank.low_accuracy:
        found.append("tuned LoRA's accuracy is below 10 %, so accuracies say little")
    return found


def list_limits(experiment: Experiment) -> list[str]:
    """List what a reader might conclude and should not."""
    return [
        f"One model ({experiment.model.name}) and one task: nothing about others, larger models least of all.",
        f"One budget of {experiment.protocol.steps} steps, one optimiser and schedule, one alpha: with more steps "
        "differences of initialisations usually shrink.",
        f"{len(experiment.protocol.fresh_seeds)} seeds. They redraw the calibration sample, the order of training and "
        "the random matrices, but neither the splits nor the training rows.",
        "Learning rates between the points of the grid were not tried, and the intervals take each method's selected "
        "rate as given: with other validation rows or seeds a neighbour might have been selected.",
        "A difference that is not shown is not shown to be zero.",
        "Each rank and each measure has its own 5 % for a false difference; over several of them these add up.",
        "Seconds are those of one machine, on which other work may have run at the same time, and of implementations "
        "that were not all tuned for speed.",
    ]


def tabulate_provenance(records: Sequence[RunRecord]) -> str:
    """Tabulate where, when and with what the runs were made, as their records say."""
    rows = [("report", "made from the files in runs/ alone: lora-da-bench compare --report-only")]
    rows += [("runs", describe_runs(records))]
    for name in ("machine", "versions", "fingerprints"):
        values = _distinct(record.about.get(name) for record in records)
        rows += [(name, _plain(value)) for value in values]
    for stage in ("sweep", "final", "compute"):
        seeds = sorted({record.run.seed for record in records if record.run.stage == stage})
        if seeds:
            rows.append((f"seeds of stage {stage}", _numbers(seeds)))
    return write_table(("", ""), rows, text=True)


def describe_runs(records: Sequence[RunRecord]) -> str:
    """Describe in a line, which no other records share, how many runs there are and when they were made."""
    finished = sorted(str(record.about["finished"]) for record in records if record.about.get("finished"))
    return f"{len(records)}, finished from {finished[0]} to {finished[-1]}" if finished else "0"


def _distinct(values: Iterable[Any]) -> list[Any]:
    found = {json.dumps(value, sort_keys=True, default=str): value for value in values if value}
    return list(found.values())


def _orders(records: Sequence[RunRecord]) -> dict[tuple[int, int], set[str]]:
    """The batches trained on, as fingerprints, by seed and number of steps."""
    found: dict[tuple[int, int], set[str]] = defaultdict(set)
    for record in records:
        if "order" in record.about:
            found[record.run.seed, record.run.steps].add(record.about["order"])
    return found


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(entry) for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(rows: int) -> str:
    return f" ({rows:,} of them cut off at max_length)" if rows else ""


def _options(options: dict[str, Any]) -> str:
    return f" ({_plain(options)})" if options else ""


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
