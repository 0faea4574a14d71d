"""The tables of a comparison's report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from lora_da_bench.analysis.method_result import MethodResult
from lora_da_bench.analysis.significance import Difference, Estimate
from lora_da_bench.analysis.summary import Measure, RankSummary, Summary
from lora_da_bench.experiment.description import VANILLA
from lora_da_bench.report.page import Strong, write_table

NOTHING = "–"


BETTER, WORSE, UNCLEAR = "better", "worse", "not shown"


def list_verdicts(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row for each method beside plain LoRA, rank and measure: what is shown of it."""
    header = ["method", "rank", "measure", "against LoRA", "difference, simultaneous 95 %", "at equal compute"]
    rows = []
    for rank in summary.ranks:
        measures = [("test loss", rank.loss, False)]
        if rank.accuracy is not None and not rank.low_accuracy:
            measures.append(("accuracy", rank.accuracy, True))
        charged = {each.method: each for each in rank.charged}
        for name, measure, percent in measures:
            for method in (method.name for method in rank.methods if method.name != VANILLA):
                difference = measure.comparison.differences.get((method, VANILLA))
                equal = charged.get(method) and (charged[method].accuracy if percent else charged[method].loss)
                if difference is not None:
                    mean, interval, *_ = _difference_cells(difference, percent=percent)
                    shown = [_verdict(difference, percent)]
                    shown.append(f"{mean} {interval}" if difference.estimable else f"{mean} (no interval)")
                    shown.append(_verdict(equal, percent) if equal else NOTHING)
                    rows.append([method, str(rank.rank), name, *shown])
    return header, rows


def tabulate_verdict(summary: Summary) -> str | None:
    """Tabulate :func:`list_verdicts`; None where nothing is compared."""
    header, rows = list_verdicts(summary)
    return write_table(header, rows, text=True) if rows else None


def _verdict(difference: Difference, higher_is_better: bool) -> str:
    if not difference.estimable or not difference.excludes_zero:
        return UNCLEAR
    return BETTER if (difference.mean > 0) == higher_is_better else WORSE


def tabulate_results(rank: RankSummary) -> str:
    """Tabulate a row for the untouched base and one for each method, without columns that none has a value for."""
    # Vanilla LoRA reaches its own loss, so where no method does there is nothing to reach.
    target = any(method.steps_to_lora is not None for method in rank.methods)

    def reached(method: MethodResult, value: float | None) -> str:
        return f"≤ {value:.0f}" if value is not None else "never" if target and method.curve else NOTHING

    columns: list[tuple[str, Callable[[MethodResult], str]]] = [
        ("runs", lambda m: str(len(m.seeds))),
        ("diverged or failed", lambda m: str(m.unsuccessful) if m.unsuccessful else NOTHING),
        ("learning rate", lambda m: f"{m.selection.learning_rate:.3g}" if m.selection else NOTHING),
        ("step", lambda m: str(m.selection.step) if m.selection else NOTHING),
        ("test loss", lambda m: _estimate(m.test_loss, percent=False)),
        ("accuracy", lambda m: _estimate(m.accuracy, percent=True)),
        ("F1", _figure("f1", "{:.3f}")),
        ("Matthews", _figure("matthews", "{:.3f}")),
        ("validation loss at step 0", _figure("step0_loss", "{:.4f}")),
        ("forgetting", _figure("forgetting", "{:+.4f}")),
        ("init seconds", _figure("init_seconds", "{:.1f}")),
        ("training seconds", _figure("train_seconds", "{:.1f}")),
        ("init peak GiB", _figure("init_peak_gib", "{:.2f}")),
        ("training peak GiB", _figure("train_peak_gib", "{:.2f}")),
        ("steps to LoRA", lambda m: reached(m, m.steps_to_lora)),
        ("seconds to LoRA", lambda m: reached(m, m.seconds_to_lora)),
    ]
    cells = [(header, [text(method) for method in rank.methods]) for header, text in columns]
    kept = [(header, values) for header, values in cells if any(value != NOTHING for value in values)]
    names = [method.name for method in rank.methods]
    rows = [(name, *(values[index] for _, values in kept)) for index, name in enumerate(names)]
    if rank.base_loss is not None:
        base = f"{rank.base_loss:.4f}"
        cells_of_base = (base if header == "test loss" else NOTHING for header, _ in kept)
        rows.insert(0, ("untouched base (LoRA at step 0)", *cells_of_base))
    return write_table(("method", *(header for header, _ in kept)), rows)


def tabulate_differences(rank: RankSummary, measure: Measure, *, percent: bool) -> str:
    """Tabulate each pair of methods once: the later in the experiment's order minus the earlier, LoRA first."""
    compared = [method.name for method in rank.methods if method.name in measure.ranking]
    compared.sort(key=lambda name: name != VANILLA)
    rows = []
    for other, method in itertools.combinations(compared, 2):
        cells = _difference_cells(measure.comparison.differences[method, other], percent=percent)
        rows.append((f"{method} − {other}", *cells))
    return write_table(("difference", "mean", "simultaneous 95 %", "p", "detectable", "from seeds"), rows)


def tabulate_learning_rates(rank: RankSummary) -> str:
    """Tabulate the whole sweep: a column for each learning rate of any method."""
    rates = sorted({point.learning_rate for method in rank.methods for point in method.grid})
    rows = []
    for method in rank.methods:
        losses = {point.learning_rate: point.loss for point in method.grid}
        cells = []
        for rate in rates:
            loss = losses.get(rate)
            text = NOTHING if loss is None else f"{loss:.4f}" if math.isfinite(loss) else "diverged or failed"
            if method.selection is not None and rate == method.selection.learning_rate:
                edge = f" ({method.selection.at_edge} edge)" if method.selection.at_edge else ""
                text = Strong(text + edge)
            cells.append(text)
        rows.append((method.name, *cells))
    return write_table(("method", *(f"{rate:.3g}" for rate in rates)), rows)


def tabulate_charged(rank: RankSummary) -> str:
    """Tabulate methods against vanilla LoRA at equal compute."""
    header = ["method", "its seconds", "LoRA's seconds", "LoRA's steps", "test loss", "simultaneous 95 %", "p"]
    answered = any(charged.accuracy is not None for charged in rank.charged)
    rows = []
    for charged in rank.charged:
        row = [charged.method, f"{charged.seconds:.1f}", f"{charged.vanilla_seconds:.1f}", str(charged.steps)]
        row += _difference_cells(charged.loss, percent=False)[:3]
        if answered:
            row += _difference_cells(charged.accuracy, percent=True)[:3] if charged.accuracy else [NOTHING] * 3
        rows.append(row)
    return write_table(header + (["accuracy, points", "simultaneous 95 %", "p"] if answered else []), rows)


def _estimate(estimate: Estimate | None, *, percent: bool) -> str:
    if estimate is None:
        return NOTHING
    mean = _number(estimate.mean, percent=percent) + (" %" if percent else "")
    if not estimate.estimable:
        return f"{mean} (no interval)"
    return f"{mean} [{_number(estimate.low, percent=percent)}, {_number(estimate.high, percent=percent)}]"


def _difference_cells(difference: Difference, *, percent: bool) -> list[str]:
    """Mean, interval and p-value, bold where zero is excluded; detectable difference and the seeds' share."""
    mean, low, high = (
        _number(value, percent=percent, sign="+") for value in (difference.mean, difference.low, difference.high)
    )
    if not difference.estimable:
        return [mean, "not estimable", NOTHING, NOTHING, NOTHING]
    p_value = f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "< 0.001"
    cells = [mean, f"[{low}, {high}]", p_value]
    if difference.excludes_zero:
        cells = [Strong(cell) for cell in cells]
    return [*cells, _number(difference.detectable, percent=percent), f"{difference.seed_share:.0%}"]


def _number(value: float, *, percent: bool, sign: str = "") -> str:
    """A loss, or an accuracy in percent; zero has no minus."""
    return f"{100 * value:{sign}z.1f}" if percent else f"{value:{sign}z.4f}"


def _figure(name: str, form: str) -> Callable[[MethodResult], str]:
    return lambda method: form.format(method.figures[name]) if name in method.figures else NOTHING
