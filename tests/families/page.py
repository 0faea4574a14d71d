"""Writes docs/models.md: which families are served, how exactly, and which not. Run by ``make families``."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from families.catalogue import FAMILIES
from families.check import ALL_ROWS, CRASH, EXACT, NOT_RUN, REFUSED, WRONG, Row, Verdict, check
from families.family import Family
from lora_da.system.provenance import describe_machine, find_versions

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "models.md", ROOT / "results" / "families" / "families.json"
_COLUMNS = ("unpadded", "right", "left", "checkpointing", "initialised", "head")
_HEAD = """# Which models are served

Written by `make families`, which runs every row on a tiny model with random weights and compares the library with
plain autograd and plain PEFT. A cell is *exact* if the gradients equal autograd's to 1e-5, the other sums and counts
equal those of single examples without padding, and the model, its hooks, modes and all random states are as before.
*Initialised* is exact if the first step is base + s·B·A and plain PEFT loads it bit for bit. *Head* has the output head
among the targets, where its verdict is another. *All rows counted*: padding of some layers can't be told from tokens,
so that their Fisher factors count it, which a notice says; their gradients are exact. A model whose outputs depend on
its padding (†) is compared with autograd on the padded batch. – stands for what the model or the task does not have.

"""


def run(family: Family) -> Row:
    """One family's row; one that can't be built or run without the library is a row that says so."""
    try:
        return check(family)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        return Row(family.name, family.task, notes=[f"not checked: {type(error).__name__}: {reason}"])


def text_of(rows: list[Row]) -> str:
    """The page."""
    counts = Counter(row.verdict.word for row in rows)
    words = (EXACT, ALL_ROWS, REFUSED, WRONG, CRASH, NOT_RUN)
    lines = [
        f"{len({row.name for row in rows})} families, {len(rows)} rows: "
        + ", ".join(f"{counts[word]} {word if word != NOT_RUN else 'not checked'}" for word in words if counts[word])
        + ".\n",
        "| family | task | layers | " + " | ".join(_COLUMNS) + " | verdict |",
        "|---" * (len(_COLUMNS) + 4) + "|",
    ]
    reasons: dict[str, int] = {}
    for row in rows:
        cells = [_cell(row, column, reasons) for column in _COLUMNS]
        lines.append(
            f"| {row.name} | {row.task} | {row.served} of {row.linear} | {' | '.join(cells)} | {row.verdict.word} |"
        )
    lines += ["", "## Reasons", "", *(f"{number}. {reason}" for reason, number in reasons.items())]
    lines += ["", "## Notes", ""]
    lines += [f"- {row.name}, {row.task}: {'; '.join(row.notes)}" for row in rows if row.notes]
    return _HEAD + "\n".join(lines) + "\n"


def _cell(row: Row, column: str, reasons: dict[str, int]) -> str:
    cell = row.cells.get(column, Verdict(NOT_RUN))
    mark = "†" if column in row.padding_seen else ""
    if not cell.reason:
        return cell.word + mark
    reason = cell.reason.replace("|", "/")
    return f"{cell.word}{mark} ({reasons.setdefault(reason, len(reasons) + 1)})"


def _commit() -> str:
    """The commit of the checkout; none outside of one."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def tenth_of_them() -> list[int]:
    """The places of a tenth of the families in the catalogue, another one at each commit."""
    commit = _commit()
    keys = [f"{commit} {family.key}".encode() for family in FAMILIES]
    return [place for place, key in enumerate(keys) if int.from_bytes(hashlib.sha256(key).digest()[:4]) % 10 == 0]


def check_all(places: Sequence[int]) -> list[Row]:
    """Check families, one process a core."""
    rows = []
    quiet: dict[str, Any] = {"initializer": warnings.simplefilter, "initargs": ("ignore",)}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), **quiet) as pool:
        for number, row in enumerate(pool.map(_run_one, places), 1):
            print(f"{number}/{len(places)} {row.name}, {row.task}: {row.verdict.word}", flush=True)
            rows.append(row)
    return rows


def _run_one(place: int) -> Row:
    return run(FAMILIES[place])


def main() -> int:
    """Check the families; the exit status says whether any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenth", action="store_true", help="only a tenth of them, another one at each commit")
    parser.add_argument("--write", action="store_true", help="write the page and the results")
    chosen = parser.parse_args()
    rows = check_all(tenth_of_them() if chosen.tenth else range(len(FAMILIES)))
    if chosen.write:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "command": "make families",
            "commit": _commit(),
            "date": date.today().isoformat(),
            "machine": describe_machine(),
            "versions": find_versions(),
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(text_of(rows))
    wrong = [row for row in rows if row.verdict.word in (WRONG, CRASH, NOT_RUN)]
    for row in wrong:
        print(f"{row.name}, {row.task}: {row.cells} {row.notes}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
