"""The report of a comparison, in Markdown and HTML, from the records of its runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_da.system.files import write_text
from lora_da_bench.analysis.summary import RankSummary, Summary, summarise
from lora_da_bench.analysis.verdict import verdict
from lora_da_bench.experiment.description import methods_added
from lora_da_bench.experiment.experiment import Experiment
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.report import plots
from lora_da_bench.report.context import compared_on, limits, methods_table, provenance, shortcomings
from lora_da_bench.report.document import Block, Bullets, Image, Section, Table, to_html, to_markdown
from lora_da_bench.report.tables import (
    charged_table,
    difference_table,
    learning_rate_table,
    results_table,
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


def write_report(records: Sequence[RunRecord], experiment: Experiment, folder: Path) -> list[Path]:
    """Write ``report.md``, ``report.html`` and the plots; an earlier report is replaced.

    Args:
        records: Of the experiment's runs, as far as they are finished.
        experiment: The description.
        folder: Where to.

    Returns:
        The Markdown, the HTML, which has the plots in it, and the plots that the Markdown shows.
    """
    summary = summarise(records, experiment)
    images = _draw(summary, folder)
    weaknesses = shortcomings(summary, experiment, records, methods_added(folder))
    sections = _sections(summary, records, experiment, images, weaknesses)
    pictures = [folder / image.file for image in images]
    markdown, html = folder / "report.md", folder / "report.html"
    write_text(markdown, to_markdown(sections), overwrite=True)
    write_text(html, to_html(sections, {path.name: path.read_bytes() for path in pictures}), overwrite=True)
    return [markdown, html, *pictures]


def _draw(summary: Summary, folder: Path) -> list[Image]:
    """The plots that there are results for."""
    found = []
    for rank in summary.ranks:
        has_finals = any(method.test_loss for method in rank.methods)
        for name, caption, plot, wanted in (
            ("learning-rates", "Learning rates", plots.plot_learning_rates, any(m.grid for m in rank.methods)),
            ("losses", "Losses along training", plots.plot_losses, has_finals),
            ("quality-and-time", "Quality against time", plots.plot_pareto, has_finals),
        ):
            if wanted:
                found.append(Image(f"{name}-r{rank.rank}.png", f"{caption}, rank {rank.rank}"))
                plot(rank, folder / found[-1].file)
    if len(summary.ranks) > 1 and any(method.test_loss for rank in summary.ranks for method in rank.methods):
        found.append(Image("ranks.png", "Test loss by rank"))
        plots.plot_ranks(summary, folder / found[-1].file)
    return found


def _sections(
    summary: Summary,
    records: Sequence[RunRecord],
    experiment: Experiment,
    images: Sequence[Image],
    weaknesses: Sequence[str],
) -> list[Section]:
    sections = [
        Section(1, f"Comparison of initialisations: {experiment.name}", [Bullets(verdict(summary))]),
        Section(2, "What was compared", [compared_on(experiment, records), methods_table(summary)]),
        Section(2, "How to read the tables", [_INTERVALS]),
    ]
    for rank in summary.ranks:
        sections += _rank_sections(rank, [image for image in images if image.file.endswith(f"-r{rank.rank}.png")])
    overall = [image for image in images if image.file == "ranks.png"]
    if overall:
        sections.append(Section(2, "All ranks", overall))
    if summary.unsuccessful:
        rows = [(record.run.name, record.status, record.error or "") for record in summary.unsuccessful]
        failures: Block = Table(("run", "status", "error"), rows, text=True)
    else:
        failures = "None."
    return [
        *sections,
        Section(2, "Runs that diverged or failed", [failures]),
        Section(2, "Shortcomings", [Bullets(weaknesses)]),
        Section(2, "What this does not show", [Bullets(limits(experiment))]),
        Section(2, "Provenance", [provenance(records)]),
    ]


def _rank_sections(rank: RankSummary, images: Sequence[Image]) -> list[Section]:
    by_name = {image.file.rsplit("-", 1)[0]: image for image in images}
    pictures: list[Block] = [by_name[name] for name in ("losses", "quality-and-time") if name in by_name]
    sections = [
        Section(2, f"Rank {rank.rank}"),
        Section(3, "Results on the test split", [results_table(rank), *pictures]),
    ]
    measures = [("Differences of test loss", rank.loss, False)]
    if rank.accuracy is not None:
        measures.append(("Differences of accuracy, in points", rank.accuracy, True))
    for title, measure, percent in measures:
        if len(measure.ranking) > 1:
            about = f"Seeds {', '.join(map(str, measure.seeds))}; {measure.items} items."
            sections.append(Section(3, title, [about, difference_table(rank, measure, percent=percent)]))
    sweep: list[Block] = [
        "Mean validation loss over the seeds at each learning rate's best step; selected in bold.",
        learning_rate_table(rank),
    ]
    if "learning-rates" in by_name:
        sweep.append(by_name["learning-rates"])
    sections.append(Section(3, "Learning rates", sweep))
    if rank.charged:
        about = (
            "Vanilla LoRA with the time of each method's initialisation added to its own, as more steps of one longer "
            "schedule. Differences are the method's minus LoRA's."
        )
        sections.append(Section(3, "Equal compute", [about, charged_table(rank)]))
    return sections
