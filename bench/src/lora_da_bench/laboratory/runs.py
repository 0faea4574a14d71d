"""The runs of a laboratory: what is run, and one line of a file for each that is finished."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

VANILLA = "lora"
"""LoRA's usual A, trained as B is: what the others are measured by."""

DEFAULT = "default"
"""What the library makes, B included."""


@dataclass(frozen=True, order=True)
class LaboratoryRun:
    """One training run.

    Attributes:
        seed: Of the calibration and training blocks and every random matrix.
        domain: Which text.
        rank: r.
        method: The name of a subspace, or "lora".
        train_a: Whether A is trained.
        learning_rate: Of all steps.
    """

    seed: int
    domain: str
    rank: int
    method: str
    train_a: bool
    learning_rate: float

    @property
    def arm(self) -> str:
        """The method with what is trained, such as ``eva_frozen``."""
        return name_arm(self.method, train_a=self.train_a)


def name_arm(method: str, *, train_a: bool) -> str:
    """Name a method with what is trained."""
    return f"{method.replace('-', '_')}_{'trained' if train_a else 'frozen'}"


@dataclass(frozen=True)
class LaboratoryRecord:
    """One finished run; losses are in nats per token.

    Attributes:
        run: What was run.
        status: "diverged" if a loss became infinite or not a number.
        train_loss: Of the last ten batches.
        selection_loss: Of the split that selects the learning rate.
        test_losses: Of each block of the test split; empty if it diverged.
        seconds: Training and measuring.
        code: The fingerprint of both packages' source.
    """

    run: LaboratoryRun
    status: Literal["success", "diverged"]
    train_loss: float | None
    selection_loss: float | None
    test_losses: tuple[float, ...]
    seconds: float
    code: str


@dataclass(frozen=True)
class Grid:
    """All runs that are asked for: every combination.

    Attributes:
        domains: Names or text files.
        methods: Names of subspaces, whose A stays frozen.
        ranks: r.
        learning_rates: The grid, ascending.
        seeds: Of the runs.
        train_a: Whether each method is run with A trained too. LoRA, with A trained, always is.
    """

    domains: tuple[str, ...]
    methods: tuple[str, ...]
    ranks: tuple[int, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    train_a: bool = False

    @property
    def arms(self) -> list[tuple[str, bool]]:
        """Methods, and whether A is trained, LoRA last."""
        trained = [(method, True) for method in self.methods] if self.train_a else []
        return [*((method, False) for method in self.methods), *trained, (VANILLA, True)]

    def runs(self) -> Iterator[LaboratoryRun]:
        """Walk through the runs, one seed of everything after another, so that what is there can be read early."""
        for seed, domain, rank in itertools.product(self.seeds, self.domains, self.ranks):
            for rate, (method, train_a) in itertools.product(self.learning_rates, self.arms):
                yield LaboratoryRun(seed, domain, rank, method, train_a, rate)


def append_record(path: Path, record: LaboratoryRecord) -> None:
    """Add a line to a file, whole or not at all to whoever reads it: one write, after what an interrupted one left."""
    content = dataclasses.asdict(record.run) | dataclasses.asdict(record)
    content.pop("run")
    content["test_losses"] = [float(f"{loss:.6g}") for loss in record.test_losses]
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    line = ("\n" if cut else "") + json.dumps(content, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_records(path: Path) -> dict[LaboratoryRun, LaboratoryRecord]:
    """Read the finished runs; of two records of one run the first counts.

    A line without an end, or that is no JSON, is of a run that was interrupted while it was written.

    Raises:
        ValueError: A line is JSON and no record.
    """
    found: dict[LaboratoryRun, LaboratoryRecord] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else (), start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        record = _record_of(content, f"{path}, line {number}")
        found.setdefault(record.run, record)
    return found


def _record_of(content: dict[str, Any], where: str) -> LaboratoryRecord:
    run = {field.name for field in dataclasses.fields(LaboratoryRun)}
    try:
        own = {name: value for name, value in content.items() if name not in run}
        own["test_losses"] = tuple(own["test_losses"])
        return LaboratoryRecord(run=LaboratoryRun(**{name: content[name] for name in run}), **own)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is no record of a run ({error!r}): remove it, and it is run again") from error


def list_missing(grid: Grid, known: Iterable[LaboratoryRun]) -> Sequence[LaboratoryRun]:
    """List the runs that are not there yet."""
    done = set(known)
    return [run for run in grid.runs() if run not in done]
