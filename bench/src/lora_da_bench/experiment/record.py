"""The record of one run of a comparison, as a JSON file: all that a report is made from."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lora_da.system.json_file import read_object
from lora_da_bench.experiment.files import write_atomically

Stage = Literal["sweep", "final", "compute"]
Status = Literal["success", "diverged", "failed"]

# JSON has no infinity; null stands for it.
_Loss = Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value)]


@dataclass(frozen=True, order=True)
class Run:
    """One training run, before it is run.

    Attributes:
        stage: "sweep" selects learning rate and checkpoint on the validation split; "final" repeats the selected ones
            with fresh seeds and touches the test split; "compute" is vanilla LoRA given the time of an init.
        method: Its name in the registry, with modifiers.
        rank: r.
        learning_rate: The peak.
        seed: Of the calibration sample, the order of training and every random matrix.
        steps: Optimiser steps of the whole schedule.
        selected_step: The step at which the test split's answers are taken; None in a sweep.
        charged_for: In "compute", the method whose initialisation is paid for.
    """

    stage: Stage
    method: str
    rank: int
    learning_rate: float
    seed: int
    steps: int
    selected_step: int | None = None
    charged_for: str | None = None

    @property
    def name(self) -> str:
        """The stem of its file; no two runs of a comparison share it."""
        charged = f"-for-{self.charged_for}" if self.charged_for else ""
        return f"{self.stage}-{self.method}{charged}-r{self.rank}-lr{self.learning_rate!r}-seed{self.seed}"


@dataclass(frozen=True)
class Point:
    """A moment of a run.

    Attributes:
        step: Optimiser steps so far; 0 is the starting point.
        seconds: Time spent training so far, measurements not included.
        validation_loss: In nats per label (token); infinite once it is not a number.
        test_loss: The same on the test split; None in a sweep.
    """

    step: int
    seconds: float
    validation_loss: _Loss
    test_loss: float | None = None


@dataclass(frozen=True)
class Items:
    """Figures of each test item at the selected step, in the order of the test split.

    Attributes:
        loss: Sum of the item's losses in nats.
        labels: Number of its label tokens (1 for a class).
        correct: Whether its answer was right; empty where no answers were taken.
    """

    loss: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    correct: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    Attributes:
        run: What was run.
        status: "diverged": the validation loss became infinite or not a number; "failed": an error ended it.
        error: The error, if it failed.
        curve: From step 0 to the last.
        items: Of the test split; empty in a sweep.
        metrics: Single figures: ``validation_loss`` (last), ``test_loss`` and ``accuracy`` (at the selected step; also
            ``f1``, ``matthews``), ``step0_loss``, ``forgetting_base`` and ``forgetting`` (loss on unrelated text before
            and after), ``init_seconds``, ``train_seconds``, their ``_peak_bytes``, ``trainable_parameters``.
        adapter: ``alpha``, ``rslora`` and ``scaling`` as they were.
        about: When, where and with what: ``experiment``, ``finished``, ``machine``, ``versions``, ``fingerprints`` (of
            the splits), ``order`` (of the batches), ``trained_on``, ``rows`` and ``rows_cut`` of each split.
    """

    run: Run
    status: Status
    error: str | None
    curve: list[Point]
    items: Items
    metrics: dict[str, float | int | None]
    adapter: dict[str, Any]
    about: dict[str, Any]

    def save(self, folder: Path) -> Path:
        """Write it to ``folder``, atomically; a record of the same run is replaced."""
        path = folder / f"{self.run.name}.json"
        write_atomically(path, json.dumps(self._content(), indent=1, allow_nan=False) + "\n")
        return path

    def _content(self) -> dict[str, Any]:
        curve = [_finite(dataclasses.asdict(point)) for point in self.curve]
        metrics = _finite(self.metrics)
        return {
            **dataclasses.asdict(self.run),
            "status": self.status,
            "error": self.error,
            "metrics": metrics,
            "curve": curve,
            "items": dataclasses.asdict(self.items),
            "adapter": self.adapter,
            **_as_peft_has_it(self, metrics, curve),
        }


_RECORD = TypeAdapter(RunRecord)


def _as_peft_has_it(record: RunRecord, metrics: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any]:
    """The sections of PEFT's method_comparison results; 0 or null is what is not measured here."""
    run, about = record.run, record.about
    seconds = {part: metrics.get(f"{part}_seconds") or 0.0 for part in ("init", "train")}
    seen, parameters = about.get("trained_on", {}), metrics.get("trainable_parameters") or 0
    last = {
        "test accuracy": metrics.get("accuracy"),
        "train loss": None,
        "train samples": seen.get("examples", 0),
        "train total tokens": seen.get("tokens", 0),
    }
    packages = {f"{name}-version": version for name, version in about.get("versions", {}).items()}
    return {
        "run_info": {
            "created_at": about.get("finished"),
            "total_time": sum(seconds.values()),
            "experiment_name": f"{about.get('experiment')}/{run.name}",
            "peft_branch": "",
            "train_config": {"model_id": about.get("model")} | dataclasses.asdict(run),
            "peft_config": {"peft_type": "LORA", "r": run.rank} | record.adapter if record.adapter else None,
            "error_msg": record.error or "",
        },
        "train_info": {
            "status": record.status,
            "train_time": seconds["train"],
            "accelerator_memory_max": metrics.get("train_peak_bytes") or 0,
            "accelerator_memory_reserved_avg": 0,
            "accelerator_memory_reserved_99th": 0,
            "file_size": 4 * parameters,
            "num_trainable_params": parameters,
            "metrics": [*curve[:-1], curve[-1] | last] if curve else [last],
        },
        "meta_info": about
        | {
            "package_info": {"datasets-version": None, "bitsandbytes-version": None} | packages,
            "system_info": {"machine": about.get("machine")},
        },
    }


def load_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        ValueError: The file is no record of a run.
    """
    try:
        content = read_object(path, "remove it, and its run is run again")
        about = {k: v for k, v in content["meta_info"].items() if k not in ("package_info", "system_info")}
        run = {entry.name: content[entry.name] for entry in dataclasses.fields(Run)}
        own = ("status", "error", "curve", "items", "metrics", "adapter")
        return _RECORD.validate_python({name: content[name] for name in own} | {"run": run, "about": about})
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"{path} is no record of a run ({error!r}): remove it, and it is run again") from error


def load_records(folder: Path) -> list[RunRecord]:
    """Read all records in a folder, sorted by run."""
    return sorted((load_record(path) for path in folder.glob("*.json")), key=lambda record: record.run.name)


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same with null in place of what JSON does not have."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
