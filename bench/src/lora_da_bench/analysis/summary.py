"""Everything that the report of a comparison says in numbers, from the records of its runs alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lora_da_bench.analysis.method_result import MethodResult, average_curves, summarise_method
from lora_da_bench.analysis.pairs import Pairs, is_usable, pair_runs
from lora_da_bench.analysis.significance import Array, Comparison, Difference, compare_methods, estimate_difference
from lora_da_bench.experiment.description import VANILLA, Experiment
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.experiment.selection import Selection, select_rates

_TRUSTED_ACCURACY = 0.1


@dataclass(frozen=True)
class Measure:
    """All methods compared with one another on the test items.

    Attributes:
        seeds: Those that all compared methods have; the differences rest on them.
        items: The number of test items.
        comparison: The differences and their simultaneous intervals.
        ranking: The compared methods, the one with the best mean first.
        not_compared: The experiment's methods that are not among the compared ones.
    """

    seeds: tuple[int, ...]
    items: int
    comparison: Comparison
    ranking: tuple[str, ...]
    not_compared: tuple[str, ...]

    @property
    def winner(self) -> str | None:
        """The method shown to be better than every other; None if there is none, and while any is not compared."""
        return None if self.not_compared else self.comparison.winner()


@dataclass(frozen=True)
class Charged:
    """A method against vanilla LoRA that was given the time of the method's initialisation as well.

    Attributes:
        method: Its name.
        seeds: Those that both have.
        steps: Of vanilla LoRA's longer schedule.
        seconds: Initialisation and training of the method.
        vanilla_seconds: The same of vanilla LoRA.
        loss: The method's test loss minus vanilla LoRA's; the intervals of all methods charged hold simultaneously.
        accuracy: The same of the accuracy; None without answers.
    """

    method: str
    seeds: tuple[int, ...]
    steps: int
    seconds: float
    vanilla_seconds: float
    loss: Difference
    accuracy: Difference | None


@dataclass(frozen=True)
class RankSummary:
    """A comparison at one rank.

    Attributes:
        rank: r.
        methods: In the experiment's order.
        grown: By how many points the grid grew below and above the description's.
        loss: On test loss.
        accuracy: On accuracy; None without answers.
        low_accuracy: Whether conclusions rest on the loss alone, since tuned vanilla LoRA hardly answers anything.
        charged: At equal compute.
        missing: What is not there, in words.
        base_loss: The test loss of the untouched base model, which is that of vanilla LoRA at step 0, as its B is
            zero; of a classifier, with its fresh head. None without final runs.
    """

    rank: int
    methods: tuple[MethodResult, ...]
    grown: tuple[int, int]
    loss: Measure
    accuracy: Measure | None
    low_accuracy: bool
    charged: tuple[Charged, ...]
    missing: tuple[str, ...]
    base_loss: float | None


@dataclass(frozen=True)
class Summary:
    """A whole comparison.

    Attributes:
        ranks: Each a comparison of its own.
        unsuccessful: The runs of any stage that diverged or failed.
    """

    ranks: tuple[RankSummary, ...]
    unsuccessful: tuple[RunRecord, ...]


def summarise_records(records: Sequence[RunRecord], experiment: Experiment) -> Summary:
    """Sum up the records of a comparison, finished or not; those of methods not in the experiment are left out."""
    known = [record for record in records if record.run.method in experiment.methods]
    return Summary(
        ranks=tuple(
            _rank_summary([record for record in known if record.run.rank == rank], experiment, rank)
            for rank in experiment.ranks
        ),
        unsuccessful=tuple(record for record in known if record.status != "success"),
    )


def _rank_summary(records: Sequence[RunRecord], experiment: Experiment, rank: int) -> RankSummary:
    seeds, rates = experiment.protocol.seeds, experiment.protocol.learning_rates
    stages = {stage: [r for r in records if r.run.stage == stage] for stage in ("sweep", "final", "compute")}
    selected = select_rates(records, experiment.methods, rank, seeds)
    finals = {
        method: [record for record in stages["final"] if _at_selection(record, method, selected)]
        for method in experiment.methods
    }
    vanilla_curve = average_curves([record for record in finals[VANILLA] if is_usable(record)])
    methods = tuple(
        summarise_method(
            method,
            [record for record in stages["sweep"] if record.run.method == method],
            finals[method],
            selection=selected.get(method),
            seeds=seeds,
            target=vanilla_curve[-1].loss if vanilla_curve else None,
        )
        for method in experiment.methods
    )
    loss, accuracy = _measures(finals)
    grid = {record.run.learning_rate for record in stages["sweep"]}
    vanilla = next(result for result in methods if result.name == VANILLA)
    return RankSummary(
        rank=rank,
        methods=methods,
        grown=(sum(rate < min(rates) for rate in grid), sum(rate > max(rates) for rate in grid)),
        loss=loss,
        accuracy=accuracy,
        low_accuracy=vanilla.accuracy is not None and vanilla.accuracy.mean < _TRUSTED_ACCURACY,
        charged=_charged(stages["compute"], finals, selected),
        missing=tuple(_missing(stages, experiment, selected, finals)),
        base_loss=_base_loss(finals[VANILLA]),
    )


def _at_selection(record: RunRecord, method: str, selected: Mapping[str, Selection]) -> bool:
    """Whether a final run is of the method and at the rate and step that the sweep selects now."""
    run, choice = record.run, selected.get(method)
    return (
        choice is not None
        and run.method == method
        and (run.learning_rate, run.selected_step) == (choice.learning_rate, choice.step)
    )


def _measures(finals: Mapping[str, Sequence[RunRecord]]) -> tuple[Measure, Measure | None]:
    # Leaving out just the runs that went wrong would flatter a method: it is left out as a whole.
    compared = {method: group for method, group in finals.items() if group and all(map(is_usable, group))}
    pairs = pair_runs(compared)
    if pairs is None:
        return Measure((), 0, Comparison({}, False), (), tuple(finals)), None
    left_out = tuple(method for method in finals if method not in compared)

    def measure(values: Mapping[str, Array], weights: Array | None, higher_is_better: bool) -> Measure:
        comparison = compare_methods(values, weights, higher_is_better=higher_is_better)
        sign = -1 if higher_is_better else 1
        ranking = tuple(sorted(values, key=lambda method: sign * float(values[method].sum())))
        return Measure(pairs.seeds, len(pairs.labels), comparison, ranking, left_out)

    accuracy = measure(pairs.correct, None, True) if pairs.correct else None
    return measure(pairs.losses, pairs.labels, False), accuracy


def _base_loss(vanilla: Sequence[RunRecord]) -> float | None:
    starts = [record.curve[0] for record in vanilla if record.curve]
    losses = [point.test_loss for point in starts if point.step == 0 and point.test_loss is not None]
    return fmean(losses) if losses else None


def _charged(
    records: Sequence[RunRecord], finals: Mapping[str, Sequence[RunRecord]], selected: Mapping[str, Selection]
) -> tuple[Charged, ...]:
    rate = selected[VANILLA].learning_rate if VANILLA in selected else None
    found: list[tuple[str, list[RunRecord], Pairs]] = []
    for method, own in finals.items():
        longer = [r for r in records if r.run.learning_rate == rate and r.run.charged_for == method]
        if longer and own and all(map(is_usable, [*longer, *own])):
            pairs = pair_runs({method: own, VANILLA: longer})
            found += [] if pairs is None else [(method, longer, pairs)]
    return tuple(
        Charged(
            method=method,
            seeds=pairs.seeds,
            steps=max(record.run.steps for record in longer),
            seconds=_seconds(finals[method]),
            vanilla_seconds=_seconds(longer),
            loss=estimate_difference(
                pairs.losses[method] - pairs.losses[VANILLA], pairs.labels, comparisons=len(found)
            ),
            accuracy=estimate_difference(pairs.correct[method] - pairs.correct[VANILLA], comparisons=len(found))
            if pairs.correct
            else None,
        )
        for method, longer, pairs in found
    )


def _seconds(records: Sequence[RunRecord]) -> float:
    return fmean(sum(record.metrics.get(f"{part}_seconds") or 0.0 for part in ("init", "train")) for record in records)


def _missing(
    stages: Mapping[str, Sequence[RunRecord]],
    experiment: Experiment,
    selected: Mapping[str, Selection],
    finals: Mapping[str, Sequence[RunRecord]],
) -> Iterator[str]:
    """What a finished comparison would have besides."""
    seeds, fresh_seeds = experiment.protocol.seeds, set(experiment.protocol.fresh_seeds)
    # The grid of every method grows by as many points as that of any.
    rates = {*experiment.protocol.learning_rates, *(record.run.learning_rate for record in stages["sweep"])}
    swept = {(record.run.method, record.run.learning_rate, record.run.seed) for record in stages["sweep"]}
    for method in experiment.methods:
        absent = sum((method, rate, seed) not in swept for rate in rates for seed in seeds)
        if absent:
            yield f"{method}: {absent} of {len(rates) * len(seeds)} runs of the sweep are missing"
        elif method not in selected:
            yield f"{method}: no learning rate went well with all seeds, so none is selected"
        stale = sum(record.run.method == method for record in stages["final"]) - len(finals[method])
        if stale:
            yield f"{method}: {stale} final runs are not at what the sweep selects now, and are left out"
        fresh = fresh_seeds - _seeds(finals[method])
        if fresh and method in selected:
            yield f"{method}: the final runs with seeds {_listed(fresh)} are missing"
        charged = [record for record in stages["compute"] if record.run.charged_for == method]
        unpaid = fresh_seeds - _seeds(charged)
        if charged and unpaid:
            yield f"{method}: LoRA at equal compute is missing for seeds {_listed(unpaid)}"
        lost = _seeds(record for record in charged if not is_usable(record))
        if lost:
            yield (
                f"{method}: LoRA at equal compute diverged or failed with seeds {_listed(lost)}, so the two are not "
                "compared"
            )
    if len({tuple(record.items.labels) for group in finals.values() for record in group if is_usable(record)}) > 1:
        yield "the final runs have different test items, so no method is compared"


def _seeds(records: Iterable[RunRecord]) -> set[int]:
    return {record.run.seed for record in records}


def _listed(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
