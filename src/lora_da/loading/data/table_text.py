"""CSV and TSV files as rows, all cells text: "007" stays "007", and "NA" does not become a missing value."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import datasets

from lora_da.loading.data.limits import check_columns, check_values


def read_table(text: str, suffix: str) -> datasets.Dataset:
    """Read a table with its column names in the first line, and blank lines left out.

    CSV has cells apart by commas, or by semicolons or tabs where the first line has these and no comma. Quotes are
    CSV's. In TSV they belong to the text, as data sets for research have it, unless the file shows that they are CSV's:
    by a tab or a line break within quotes, by doubled quotes, or by a column that is quoted throughout.

    Raises:
        ValueError: A line has more or fewer cells than there are names, or a quote is not closed.
    """
    csv.field_size_limit(2**31 - 1)  # long texts are nothing unusual here
    check_values(text, ",;\t\n")
    if suffix == ".tsv":
        lines = enumerate(text.split("\n"), 1)
        plain = [(number, line.rstrip("\r").split("\t")) for number, line in lines if line.strip("\r")]
        rows = plain if _means_its_quotes(plain, text) else _quoted(text, "\t")
    else:
        first = text.partition("\n")[0]
        rows = _quoted(text, next((mark for mark in ",;\t" if mark in first), ","))
    names = rows[0][1]
    check_columns(names)
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name: {', '.join(names)}")
    for number, cells in rows:
        if len(cells) != len(names):
            raise ValueError(f"line {number} has {len(cells)} cells under {len(names)} column names")
    columns = zip(*(cells for _, cells in rows[1:]), strict=True) if len(rows) > 1 else [()] * len(names)
    return datasets.Dataset.from_dict(dict(zip(names, map(list, columns), strict=True)))


def _quoted(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Lines with their numbers, by CSV's rules, none of which may be broken."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num}: {error}; a cell that begins with a quote ends with one, and has those within it "
            "doubled"
        ) from error


def _means_its_quotes(plain: list[tuple[int, list[str]]], text: str) -> bool:
    """Whether the quotes of a TSV file, read without regard to them, belong to its texts."""
    try:
        quoted = _quoted(text, "\t")
    except ValueError:
        return True
    if not _is_even(cells for _, cells in quoted):
        return True
    cells = [row for _, row in plain]
    if not _is_even(cells) or any(_doubles(cell) for row in cells for cell in row):
        return False
    return not any(
        all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in column) for column in zip(*cells[1:], strict=True)
    )


def _doubles(cell: str) -> bool:
    """Whether it is a quoted cell with a quote in it, which is doubled there."""
    inner = cell[1:-1]
    return len(cell) > 3 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")


def _is_even(rows: Iterable[list[str]]) -> bool:
    return len({len(row) for row in rows}) <= 1
