"""The report of a comparison, in Markdown and HTML, from the records of its runs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lora_da_bench.analysis.summary import RankSummary, Summary, summarise_records
from lora_da_bench.analysis.verdict import word_verdict
from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.files import write_atomically
from lora_da_bench.experiment.fixed_description import list_added_methods
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.report import looks, plots
from lora_da_bench.report.page import render_html, write_bullets, write_heading, write_image, write_table
from lora_da_bench.report.setting import (
    describe_runs,
    list_limits,
    list_shortcomings,
    tabulate_methods,
    tabulate_provenance,
    tabulate_setting,
)
from lora_da_bench.report.tables import (
    tabulate_charged,
    tabulate_differences,
    tabulate_learning_rates,
    tabulate_results,
    tabulate_verdict,
)

_INTERVALS = (
    "Intervals cover 95 % over seeds and test items, both taken as drawn at random. Those of differences hold for all "
    "pairs of methods at once (Bonferroni), within one rank and one measure; p-values are corrected in the same way. A "
    "difference is shown where its interval excludes zero. The smallest detectable difference is the true one that "
    "would be found four times in five; 'from seeds' is the seeds' share of the variance, the rest is the items'. "
    "A difference 'a − b' is the value of a minus that of b: of losses, below zero is in favour of a. "
    "Intervals of single methods are wider than those of differences, since all methods answer the same items. Steps "
    "and seconds to LoRA are those of the first measurement at or below the validation loss at which LoRA ends."
)
_CHARGED = (
    "Vanilla LoRA with the time of each method's initialisation added to its own, as more steps of one longer "
    "schedule. Differences are the method's minus LoRA's."
)
_ACROSS_RANKS = "ranks.svg"
_REPORT = "report.md"


def write_report(
    records: Sequence[RunRecord], experiment: Experiment, folder: Path, methods: Mapping[str, str]
) -> list[Path]:
    """Write ``report.md``, ``report.html`` and the plots from the runs so far; an earlier report is replaced.

    What each method is stands in ``methods``, by name.

    Returns:
        The Markdown, the HTML, which has the plots in it, and the plots that the Markdown shows.
    """
    summary = summarise_records(records, experiment)
    figures = {name: (caption, looks.render_svg(figure)) for name, caption, figure in _draw(summary)}
    shown = {name: write_image(name, caption) for name, (caption, _) in figures.items()}
    parts = [
        write_heading(1, f"Comparison of initialisations: {experiment.name}"),
        *([table] if (table := tabulate_verdict(summary)) else []),
        write_bullets(word_verdict(summary)),
        write_heading(2, "What was compared"),
        tabulate_setting(experiment, records),
        tabulate_methods(summary, methods),
        write_heading(2, "How to read the tables"),
        _INTERVALS,
    ]
    for rank in summary.ranks:
        parts += _at_rank(rank, shown)
    if _ACROSS_RANKS in shown:
        parts += [write_heading(2, "All ranks"), shown[_ACROSS_RANKS]]
    parts += _caveats(summary, records, experiment, list_added_methods(folder))
    markdown = "\n\n".join(parts) + "\n"
    images = {name: content for name, (_, content) in figures.items()}
    files: dict[str, str | bytes] = {_REPORT: markdown, "report.html": render_html(markdown, images), **images}
    for name, text in reversed(files.items()):  # by the Markdown, the last, has_report knows that all are there
        write_atomically(folder / name, text)
    return [folder / name for name in files]


def has_report(records: Sequence[RunRecord], folder: Path) -> bool:
    """Say whether a folder holds a report that was made from these runs and no others."""
    report = folder / _REPORT
    row = write_table(("", ""), [("runs", describe_runs(records))], text=True).splitlines()[-1]
    return report.is_file() and row in report.read_text(encoding="utf-8").splitlines()


def _draw(summary: Summary) -> Iterator[tuple[str, str, Figure]]:
    """File, caption and figure of each plot that there are results for."""
    for rank in summary.ranks:
        where = f"-r{rank.rank}.svg", f", rank {rank.rank}"
        if any(method.grid for method in rank.methods):
            yield f"learning-rates{where[0]}", f"Learning rates{where[1]}", plots.plot_learning_rates(rank)
        if any(method.test_loss for method in rank.methods):
            if plots.has_differences(rank):
                yield f"differences{where[0]}", f"Differences from LoRA{where[1]}", plots.plot_differences(rank)
            yield f"losses{where[0]}", f"Losses along training{where[1]}", plots.plot_losses(rank)
            yield f"quality-and-time{where[0]}", f"Quality against time{where[1]}", plots.plot_pareto(rank)
    if len(summary.ranks) > 1 and any(method.test_loss for rank in summary.ranks for method in rank.methods):
        yield _ACROSS_RANKS, "Test loss by rank", plots.plot_ranks(summary)


def _at_rank(rank: RankSummary, images: Mapping[str, str]) -> list[str]:
    def shown(*names: str) -> list[str]:
        files = (f"{name}-r{rank.rank}.svg" for name in names)
        return [images[file] for file in files if file in images]

    parts = [
        write_heading(2, f"Rank {rank.rank}"),
        write_heading(3, "Results on the test split"),
        tabulate_results(rank),
        *shown("differences", "losses", "quality-and-time"),
    ]
    measures = [("Differences of test loss", rank.loss, False)]
    if rank.accuracy is not None:
        measures.append(("Differences of accuracy, in points", rank.accuracy, True))
    for title, measure, percent in measures:
        if len(measure.ranking) > 1:
            about = f"Seeds {', '.join(map(str, measure.seeds))}; {measure.items} items."
            parts += [write_heading(3, title), about, tabulate_differences(rank, measure, percent=percent)]
    parts += [
        write_heading(3, "Learning rates"),
        "Mean validation loss over the seeds at each learning rate's best step; selected in bold.",
        tabulate_learning_rates(rank),
        *shown("learning-rates"),
    ]
    return [*parts, write_heading(3, "Equal compute"), _CHARGED, tabulate_charged(rank)] if rank.charged else parts


def _caveats(
    summary: Summary, records: Sequence[RunRecord], experiment: Experiment, added: Sequence[tuple[str, Sequence[str]]]
) -> list[str]:
    failures = [(record.run.name, record.status, record.error or "") for record in summary.unsuccessful]
    return [
        write_heading(2, "Runs that diverged or failed"),
        write_table(("run", "status", "error"), failures, text=True) if failures else "None.",
        write_heading(2, "Shortcomings"),
        write_bullets(list_shortcomings(summary, experiment, records, added)),
        write_heading(2, "What this does not show"),
        write_bullets(list_limits(experiment)),
        write_heading(2, "Provenance"),
        tabulate_provenance(records),
    ]
