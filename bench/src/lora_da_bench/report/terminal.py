"""What a comparison shows, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.analysis.verdict import word_verdict
from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.record import RunRecord
from lora_da_bench.report.tables import BETTER, WORSE, list_verdicts

_COLOURS = {BETTER: "green", WORSE: "red"}


def print_verdict(records: Sequence[RunRecord], experiment: Experiment) -> None:
    """Print what is shown of each method as a table, and the verdict in sentences below."""
    summary = summarise_records(records, experiment)
    header, rows = list_verdicts(summary)
    console = Console()
    if rows:
        table = Table(title=Text(experiment.name), title_justify="left", box=SIMPLE)
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
        console.print(table)
    for sentence in word_verdict(summary):
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
