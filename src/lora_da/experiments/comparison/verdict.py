"""What a comparison shows, in words, and nothing that its intervals do not support."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lora_da.experiments.comparison.summary import VANILLA, Measure, RankSummary, Summary


def verdict(summary: Summary) -> list[str]:
    """One sentence or a few for each rank and measure."""
    found = []
    for rank in summary.ranks:
        found.append(f"Rank {rank.rank}, test loss: {_sentences(rank.loss, loss_text)}")
        if rank.low_accuracy:
            found.append(f"Rank {rank.rank}, accuracy: {_low_accuracy(rank)}")
        elif rank.accuracy is not None:
            found.append(f"Rank {rank.rank}, accuracy: {_sentences(rank.accuracy, points_text)}")
        if rank.missing:
            found.append(f"Rank {rank.rank} has gaps, see the shortcomings.")
    return found


def loss_text(value: float) -> str:
    """A size of a difference of losses."""
    return f"{value:.4f}"


def points_text(value: float) -> str:
    """A size of a difference of accuracies."""
    return f"{100 * value:.1f} points"


def _sentences(measure: Measure, size: Callable[[float], str]) -> str:
    compared = list(measure.best_competitor)
    if len(compared) < 2:
        return "there are no final runs of two methods on the same seeds yet, so nothing is compared."
    differences = measure.comparison.differences
    if not any(difference.estimable for difference in differences.values()):
        return (
            f"nothing can be shown: with {_count(measure.seeds, 'seed')} and {measure.items} items there is no "
            "variation to measure uncertainty by."
        )
    return " ".join([_winner(measure), *_against_vanilla(measure, size)])


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
    others = [method for method in measure.best_competitor if method != VANILLA]
    if VANILLA not in measure.best_competitor:
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
