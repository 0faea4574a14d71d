"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lora_da.experiments.estimate import Plan


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table; the first column is text, the others numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A table that is wider than the terminal stays whole: cut cells can't be read, and pipes have no width.
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(needed, Console().width)).print(table)


def show_plan(plan: Plan, output: Path) -> None:
    """Print what a dry run found out."""
    layers = [(kind, str(count), str(d_in), str(d_out)) for kind, (count, d_in, d_out) in plan.layers.items()]
    show_table(("layers", "count", "d_in", "d_out"), layers)
    peak = plan.model_bytes + plan.statistics_bytes + plan.activation_bytes
    facts = [
        ("rows of the data set", f"{plan.rows:,}"),
        ("calibration examples", f"{plan.examples:,}"),
        ("their tokens (longest example)", f"{plan.tokens:,} ({plan.longest:,})"),
        ("parameters of the base model", f"{plan.parameters:,}"),
        ("memory: model", _gigabytes(plan.model_bytes)),
        ("memory: statistics, at most", _gigabytes(plan.statistics_bytes)),
        ("memory: one batch, roughly", _gigabytes(plan.activation_bytes)),
        ("memory: together", _gigabytes(peak)),
        ("time on this machine, roughly", f"{plan.seconds:,.0f} s and the loading of the model"),
        ("would be written", str(output)),
    ]
    show_table(("dry run: nothing was written", ""), facts)


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
