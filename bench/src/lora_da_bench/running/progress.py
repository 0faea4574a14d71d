"""How far a comparison is: one line on stderr for each finished run, and silence of what would drown it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging

from lora_da_bench.experiment.record import RunRecord


def print_progress(record: RunRecord, done: int, total: int) -> None:
    """Print what became of a run, and how many runs of those that are known to be needed are done."""
    took = say_duration(float(record.metrics.get("wall_seconds") or 0.0))
    if record.status == "success":
        outcome = f"validation loss {record.metrics['validation_loss']:.4f} ({took})"
    else:
        outcome = f"{record.status} ({took})" + (f": {record.error}" if record.error else "")
    print(f"{done}/{total} {record.run.name}: {outcome}", file=sys.stderr, flush=True)


def print_stage(words: str) -> None:
    """Print what begins now, in a trial that ends without a line of its own."""
    print(f"  {words} …", file=sys.stderr, flush=True)


def say_duration(seconds: float) -> str:
    """Say a time in words, in the unit that tells something."""
    if seconds < 120:
        count = max(1, round(seconds))
        return f"{count} second" + ("" if count == 1 else "s")
    return f"{seconds / 60:.0f} minutes" if seconds <= 7200 else f"{seconds / 3600:,.1f} hours"


@contextmanager
def silence_bars() -> Iterator[None]:
    """Show none of the bars of datasets ("Generating train split") and transformers ("Loading weights")."""
    enable: list[Callable[[], None]] = []
    if not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
        enable.append(datasets.enable_progress_bars)
    if logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
        enable.append(logging.enable_progress_bar)
    try:
        yield
    finally:
        for restore in enable:
            restore()
