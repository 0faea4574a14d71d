"""What a comparison shows, in words, and nothing that its intervals do not support."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lora_da_bench.analysis.significance import Difference
from lora_da_bench.analysis.summary import Measure, RankSummary, Summary
from lora_da_bench.experiment.description import VANILLA
from lora_da_bench.experiment.schedule import CHARGED_FROM

_EQUAL_COMPUTE = f"at equal compute, where {VANILLA} gets the time of the initialisation as more steps"
_LOSS, _POINTS = "{:.4f}".format, lambda gain: f"{100 * gain:.1f} points"


def word_verdict(summary: Summary) -> list[str]:
    """Word what is shown of each rank and measure in a few sentences, what weakens them among them."""
    found = []
    for rank in summary.ranks:
        charged = {charged.method: charged.loss for charged in rank.charged}
        found.append(f"Rank {rank.rank}, test loss: {_sentences(rank, rank.loss, charged, _LOSS)}")
        if rank.low_accuracy:
            found.append(f"Rank {rank.rank}, accuracy: {_low_accuracy(rank)}")
        elif rank.accuracy is not None:
            charged = {charged.method: charged.accuracy for charged in rank.charged if charged.accuracy is not None}
            found.append(f"Rank {rank.rank}, accuracy: {_sentences(rank, rank.accuracy, charged, _POINTS)}")
        if rank.missing:
            found.append(f"Rank {rank.rank} has gaps, see the shortcomings.")
    return found


def _sentences(
    rank: RankSummary, measure: Measure, charged: Mapping[str, Difference], size: Callable[[float], str]
) -> str:
    compared = measure.ranking
    if len(compared) < 2:
        return "there are no final runs of two methods on the same seeds yet, so nothing is compared."
    differences = measure.comparison.differences
    if not any(difference.estimable for difference in differences.values()):
        return (
            f"nothing can be shown: with {_count(measure.seeds, 'seed')} and {measure.items} items there is no "
            "variation to measure uncertainty by."
        )
    parts = [_winner(measure), *_against_vanilla(measure, size)]
    return " ".join([*parts, *_at_equal_compute(rank, measure, charged), *_caveats(rank, measure)])


def _winner(measure: Measure) -> str:
    if measure.winner is not None:
        return f"{measure.winner} is better than every other method."
    best = measure.comparison.winner()
    if best is not None:
        return (
            f"{best} is better than every other method that was compared, but {_listed(measure.not_compared)} could "
            "not be compared, so there is no winner."
        )
    return "No method is shown to be better than every other."


def _against_vanilla(measure: Measure, size: Callable[[float], str]) -> list[str]:
    differences = measure.comparison.differences
    others = [method for method in measure.ranking if method != VANILLA]
    if VANILLA not in measure.ranking:
        return [f"{VANILLA} itself could not be compared."]
    better = [method for method in others if measure.comparison.better(method, VANILLA)]
    worse = [method for method in others if measure.comparison.better(VANILLA, method)]
    found = []
    if better:
        found.append(f"Shown to be better than {VANILLA}: {_listed(better)}.")
    if worse:
        found.append(f"Shown to be worse than {VANILLA}: {_listed(worse)}.")
    if not better and not worse:
        found.append(f"None is shown to differ from {VANILLA}.")
    unclear = [method for method in others if method not in better + worse]
    limits = [differences[method, VANILLA].detectable for method in unclear if differences[method, VANILLA].estimable]
    if limits:
        found.append(f"Not shown does not mean equal: true differences below {size(max(limits))} could go unseen.")
    return found


def _at_equal_compute(rank: RankSummary, measure: Measure, charged: Mapping[str, Difference]) -> list[str]:
    """What remains of the verdict where vanilla LoRA has the time of the initialisation as more steps."""
    if VANILLA not in measure.ranking:
        return []
    higher = measure.comparison.higher_is_better
    better = [method for method, difference in charged.items() if _shown(difference, positive=higher)]
    worse = [method for method, difference in charged.items() if _shown(difference, positive=not higher)]
    claimed = [method for method in measure.ranking if method != VANILLA and measure.comparison.better(method, VANILLA)]
    uncharged = [method for method in claimed if method not in charged]
    cheap = [method for method in uncharged if _is_cheap(rank, method)]
    groups = {
        f"Better than {VANILLA} also {_EQUAL_COMPUTE}": [method for method in claimed if method in better],
        f"NOT shown to be better than {VANILLA} {_EQUAL_COMPUTE}": [
            method for method in claimed if method in charged and method not in better
        ],
        f"Shown to be worse than {VANILLA} {_EQUAL_COMPUTE}": worse,
        f"Their compute is equal as it is, the initialisation being under {CHARGED_FROM:.0%} of the training": cheap,
        f"Not compared with {VANILLA} at equal compute": [method for method in uncharged if method not in cheap],
    }
    return [f"{text}: {_listed(methods)}." for text, methods in groups.items() if methods]


def _shown(difference: Difference, *, positive: bool) -> bool:
    return difference.low > 0 if positive else difference.high < 0


def _is_cheap(rank: RankSummary, name: str) -> bool:
    """Whether vanilla LoRA is given none of a method's initialisation, as it is too short to count."""
    figures = {method.name: method.figures for method in rank.methods}
    init, training = figures[name].get("init_seconds"), figures[VANILLA].get("train_seconds")
    return init is not None and training is not None and init < CHARGED_FROM * training


def _caveats(rank: RankSummary, measure: Measure) -> list[str]:
    """What weakens all that is said of a rank."""
    edges = [
        f"{method.name} ({method.selection.at_edge})"
        for method in rank.methods
        if method.name in measure.ranking and method.selection is not None and method.selection.at_edge is not None
    ]
    found = []
    if edges:
        found.append(
            f"But the selected learning rate lies at the edge of the grid for {_listed(edges)}: a rate beyond it could "
            "be better."
        )
    if len(measure.seeds) < 3:
        found.append(f"But all this rests on {_count(measure.seeds, 'fresh seed')}; three is the least to rely on.")
    return found


def _low_accuracy(rank: RankSummary) -> str:
    vanilla = next(method for method in rank.methods if method.name == VANILLA)
    assert vanilla.accuracy is not None
    return (
        f"tuned {VANILLA} answers {vanilla.accuracy.mean:.1%} of the items, below 10 %, so conclusions rest on the "
        "test loss alone."
    )


def _count(values: Sequence[object], unit: str) -> str:
    return f"{len(values)} {unit}" + ("" if len(values) == 1 else "s")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
