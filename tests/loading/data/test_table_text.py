"""CSV and TSV: whose the quotes are, and what tells the cells apart."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest

from lora_da.loading.data.table_text import read_table

CELLS = [["sentence", "label"], ['He said "no", twice', "0"], ['"', "1"], ["7", "NA"], ["two\tcells\nand lines", "x"]]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".csv", ";"), (".csv", "\t"), (".tsv", "\t")])
@pytest.mark.parametrize("rows", [CELLS, CELLS[:2], CELLS[:4]])
def test_tables_written_by_csv_rules(rows: list[list[str]], suffix: str, mark: str, quoting: int) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    table = read_table(stream.getvalue(), suffix)
    assert [table.column_names, *([*row.values()] for row in table)] == rows


@pytest.mark.parametrize(
    "cells",
    [
        ['"Great film"', "plain", '"no" end'],
        ['"opened here', "plain", 'closed there"'],  # by CSV's rules one cell of three lines
        ['a 5" disk', '"', "plain"],
        ['""', "plain", "''"],
    ],
)
def test_quotes_of_tsv_belong_to_the_texts(cells: list[str]) -> None:
    table = read_table("".join(f"{cell}\t{n}\r\n" for n, cell in enumerate(["sentence", *cells])), ".tsv")
    assert table["sentence"] == cells
    assert table["0"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ('a,b\n"open,1\nx,2\n', ".csv", "line 3: unexpected end of data; a cell that begins with a quote"),
        ('a,b\n"open" x,1\n', ".csv", "line 2: ',' expected after '\"'"),
        ("a\tb\nx\n", ".tsv", "line 2 has 1 cells under 2 column names"),
        ("a,a\nx,y\n", ".csv", "two columns have one name"),
    ],
)
def test_broken_tables(text: str, suffix: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(text, suffix)


def test_a_real_file_has_a_row_for_each_line() -> None:
    root = os.environ.get("LORA_DA_DATA")
    if root is None or not (file := Path(root) / "sst2" / "train.tsv").is_file():
        pytest.skip("needs LORA_DA_DATA with sst2/train.tsv")
    text = file.read_text(encoding="utf-8")
    table = read_table(text, ".tsv")
    names = table.column_names
    assert ["\t".join(row[name] for name in names) for row in table] == text.rstrip("\n").split("\n")[1:]
