"""The record of one run of a comparison, as a JSON file: all that a report is made from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lora_da.system.files import write_text

Stage = Literal["sweep", "final", "compute"]
Status = Literal["success", "diverged", "failed"]


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
        return f"{self.stage}-{self.method}{charged}-r{self.rank}-lr{self.learning_rate:.3g}-seed{self.seed}"


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
    validation_loss: float
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
        metrics: Single figures, each of them a number or None: ``validation_loss`` (last), ``test_loss`` and
            ``accuracy`` (at the selected step; also ``f1``, ``matthews``), ``step0_loss``, ``base_loss`` (validation
            loss of the untouched base), ``forgetting_base``, ``forgetting`` (loss on unrelated text before and after),
            ``init_seconds``, ``train_seconds``, ``init_peak_bytes``, ``train_peak_bytes``, ``trainable_parameters``.
        adapter: ``alpha``, ``rslora``, ``scaling`` and what else was set.
        about: When, where and with what: ``experiment``, ``finished``, ``machine``, ``versions`` (with the
            fingerprint of this package's source), ``fingerprints`` (of the splits), ``order`` (of the batches),
            ``trained_on`` (``examples`` and ``tokens``), ``rows`` and ``rows_cut`` (at ``max_length``) of each split.
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
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(self._content(), indent=1) + "\n", overwrite=True)
        return path

    def _content(self) -> dict[str, Any]:
        # Infinities as null: JSON has none.
        curve = [{**dataclasses.asdict(point), "validation_loss": _finite(point.validation_loss),
                  "test_loss": _finite(point.test_loss)} for point in self.curve]  # fmt: skip
        metrics = {name: _finite(value) for name, value in self.metrics.items()}
        return {
            **dataclasses.asdict(self.run),
            "status": self.status,
            "error": self.error,
            "metrics": metrics,
            "curve": curve,
            "items": dataclasses.asdict(self.items),
            "adapter": self.adapter,
            **self._as_peft_has_it(metrics, curve),
        }

    def _as_peft_has_it(self, metrics: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any]:
        """The sections of PEFT's method_comparison results; 0 or null is what is not measured here."""
        seconds = {part: metrics.get(f"{part}_seconds") or 0.0 for part in ("init", "train")}
        seen, parameters = self.about.get("trained_on", {}), metrics.get("trainable_parameters") or 0
        last = {
            "test accuracy": metrics.get("accuracy"),
            "train loss": None,
            "train samples": seen.get("examples", 0),
            "train total tokens": seen.get("tokens", 0),
        }
        packages = {f"{name}-version": version for name, version in self.about.get("versions", {}).items()}
        return {
            "run_info": {
                "created_at": self.about.get("finished"),
                "total_time": sum(seconds.values()),
                "experiment_name": f"{self.about.get('experiment')}/{self.run.name}",
                "peft_branch": "",
                "train_config": {"model_id": self.about.get("model")} | dataclasses.asdict(self.run),
                "peft_config": {"peft_type": "LORA", "r": self.run.rank} | self.adapter if self.adapter else None,
                "error_msg": self.error or "",
            },
            "train_info": {
                "status": self.status,
                "train_time": seconds["train"],
                "accelerator_memory_max": metrics.get("train_peak_bytes") or 0,
                "accelerator_memory_reserved_avg": 0,
                "accelerator_memory_reserved_99th": 0,
                "file_size": 4 * parameters,
                "num_trainable_params": parameters,
                "metrics": [*curve[:-1], curve[-1] | last] if curve else [last],
            },
            "meta_info": self.about
            | {
                "package_info": {"datasets-version": None, "bitsandbytes-version": None} | packages,
                "system_info": {"machine": self.about.get("machine")},
            },
        }


def load_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        ValueError: The file is no record of a run.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run = Run(**{name.name: content[name.name] for name in dataclasses.fields(Run)})
        curve = [
            Point(point["step"], point["seconds"], _number(point["validation_loss"]), point["test_loss"])
            for point in content["curve"]
        ]
        return RunRecord(
            run=run,
            status=content["status"],
            error=content["error"],
            curve=curve,
            items=Items(**content["items"]),
            metrics=content["metrics"],
            adapter=content["adapter"],
            about={k: v for k, v in content["meta_info"].items() if k not in ("package_info", "system_info")},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no record of a run ({error!r}): remove it, and it is run again") from error


def load_records(folder: Path) -> list[RunRecord]:
    """All records in a folder, sorted by run."""
    return sorted((load_record(path) for path in folder.glob("*.json")), key=lambda record: record.run.name)


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and abs(value) < float("inf") else None


def _number(value: float | None) -> float:
    return float("inf") if value is None else value
