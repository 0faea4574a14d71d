"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, *, text: bool = False
) -> None:
    """Print a table; the first column is text, the others numbers, or text where ``text`` says so.

    What stands in it is shown as it is: names of layers and paths may look like rich's markup.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if text or index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A table that is wider than the terminal stays whole: cut cells can't be read, and pipes have no width.
    needed = _console(1000).measure(table).maximum
    _console(max(needed, Console().width)).print(table)


def _console(width: int) -> Console:
    return Console(width=width, markup=False, emoji=False, highlight=False)
