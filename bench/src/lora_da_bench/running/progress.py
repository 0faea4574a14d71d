"""How far a comparison is, on stderr: bars on a terminal, elsewhere one plain line for each finished run."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from lora_da_bench.experiment.record import Run, RunRecord


class Progress:
    """The comparison as a whole; to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._bar = tqdm(desc="comparison", unit="run", disable=None)  # None: shown on a terminal alone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.close()

    def expect(self, runs: int) -> None:
        """Say how many more runs are known to be needed."""
        self._total = self._bar.total = self._done + runs
        self._bar.refresh()

    def finished(self, record: RunRecord) -> None:
        """Count a run."""
        self._done += 1
        text = _outcome(record)
        if self._bar.disable:
            print(f"{self._done}/{self._total} {text}", file=sys.stderr, flush=True)
            return
        self._bar.update()
        self._bar.set_postfix_str(text)
        if record.status != "success":
            self._bar.write(text, file=sys.stderr)  # stays on the screen


def run_bar(run: Run) -> Any:
    """The bar of one run, which goes when the run is over."""
    return tqdm(total=run.steps, desc=run.name, unit="step", leave=False, disable=None)


def duration(seconds: float) -> str:
    """A time in words, in the unit that tells something."""
    if seconds < 120:
        count = max(1, round(seconds))
        return f"{count} second" + ("" if count == 1 else "s")
    return f"{seconds / 60:.0f} minutes" if seconds <= 7200 else f"{seconds / 3600:,.1f} hours"


def _outcome(record: RunRecord) -> str:
    took = duration(float(record.metrics.get("wall_seconds") or 0.0))
    if record.status == "success":
        return f"{record.run.name}: validation loss {record.metrics['validation_loss']:.4f} ({took})"
    return f"{record.run.name}: {record.status} ({took})" + (f": {record.error}" if record.error else "")
