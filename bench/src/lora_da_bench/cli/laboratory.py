"""The command ``lora-da-bench laboratory``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_da_bench.cli.rows import show_rows
from lora_da_bench.cli.stopping import keeping
from lora_da_bench.laboratory.runs import Grid, LaboratoryRecord, LaboratoryRun, list_missing, load_records

_FULL: dict[str, Any] = {
    "domains": ("shakespeare", "gsm8k", "wikitext", "arc-easy"),
    "methods": None,  # all
    "ranks": (4,),
    "learning_rates": (5e-3, 1e-2, 2e-2),
    "seeds": (1, 2, 3),
    "steps": 150,
}
_QUICK: dict[str, Any] = _FULL | {
    "domains": ("gsm8k",),
    "methods": ("default", "eva", "paper", "random"),
    "learning_rates": (5e-3, 1e-2),
    "seeds": (1,),
    "steps": 100,
}


def laboratory(
    out: Annotated[Path | None, typer.Option(help="Where the runs are, and go.  [default: results/laboratory]")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A small model.  [default: models/stories260K beside $LORA_DA_DATA; minilm to classify]"),
    ] = None,
    domains: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Domains, or text files; or sst2 and gsm8k-steps, to classify.")
    ] = None,
    methods: Annotated[str | None, typer.Option(metavar="A,B,…", help="Subspaces; without it all.")] = None,
    ranks: Annotated[str | None, typer.Option(metavar="A,B,…", help="Ranks.")] = None,
    learning_rates: Annotated[str | None, typer.Option(metavar="A,B,…", help="Learning rates.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A,B,…", help="Seeds.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of a run.")] = None,
    train_a: Annotated[bool, typer.Option("--train-a", help="Run each method with A trained as well.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few methods, domains, seeds and steps: minutes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many runs are there, how many next; stop.")
    ] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Show what is there, and run nothing.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say what each method is, and run nothing.")] = False,
) -> None:
    """From which statistics should the span of a frozen A be taken? Minutes on one core, with a tiny language model.

    Every method's A is brought to the same scale with white outputs and B starts at zero, so that they differ by the
    span alone. For one seed all have the same calibration blocks and the same batches. Stopped at any moment, the same
    command goes on.
    """
    # Here, as they bring torch, transformers and PEFT with them, which --help need not wait for.
    from lora_da_bench.laboratory.carrying_out import carry_out, check_grid
    from lora_da_bench.laboratory.data.domains import find_model
    from lora_da_bench.laboratory.library_start import METHODS
    from lora_da_bench.laboratory.settings import RECORDS, Settings

    if list_:
        show_rows(("method", "the span of A"), list(METHODS.items()))
        return
    given = {"domains": domains, "methods": methods, "ranks": ranks, "learning_rates": learning_rates, "seeds": seeds}
    chosen = (_QUICK if quick else _FULL) | {
        name: _split(name, text) for name, text in given.items() if text is not None
    }
    own_steps = chosen.pop("steps")
    settings = dataclasses.replace(Settings(), steps=steps or own_steps)
    folder = out or Path("results") / ("laboratory-quick" if quick else "laboratory")
    grid = Grid(**chosen | {"methods": chosen["methods"] or tuple(METHODS)}, train_a=train_a)
    check_grid(grid)
    records = load_records(folder / RECORDS)
    if dry_run:
        print(f"{folder}: {len(records)} runs are there, {len(list_missing(grid, records))} are next")
        _say_what_is_there(records)
        return
    if report_only:
        _say_what_is_there(records)
    else:
        with keeping():
            records = carry_out(grid, settings, model or find_model(grid.domains), folder)
    _show(grid, records)


def _say_what_is_there(records: Collection[LaboratoryRun]) -> None:
    """What may be asked for without a run more: an arm is shown only with all of its domains, rates and seeds."""
    for name in ("methods", "domains", "ranks", "learning_rates", "seeds") if records else ():
        values = sorted({getattr(run, name.removesuffix("s")) for run in records})
        print(f"  {_flag(name)} {','.join(map(str, values))}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _split(name: str, text: str) -> tuple[Any, ...]:
    cast: Any = {"ranks": int, "seeds": int, "learning_rates": float}.get(name, str)
    try:
        values = [cast(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{_flag(name)} must be numbers separated by commas, not {text!r}") from error
    return tuple(sorted(values) if name == "learning_rates" else values)


def _show(grid: Grid, records: Mapping[LaboratoryRun, LaboratoryRecord]) -> None:
    """A table for each rank, and last its figures in one line."""
    from lora_da_bench.laboratory.results import summarise
    from lora_da_bench.laboratory.tables import LEGEND, tabulate, write_figures

    print(LEGEND)
    summaries = {rank: summarise(grid, records, rank) for rank in grid.ranks}
    for rank, results in summaries.items():
        header, *rows = tabulate(results, grid.domains)
        print(f"\nrank {rank}")
        show_rows(header, rows)
    if len(codes := {records[run].code for run in grid.runs() if run in records}) > 1:
        print(f"\nThese runs were made by {len(codes)} versions of the code, so that a method may not be one thing.")
    for rank, results in summaries.items():
        print(f"rank={rank} {write_figures(results, grid.domains)}")
