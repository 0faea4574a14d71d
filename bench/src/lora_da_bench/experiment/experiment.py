"""The description of a comparison: one file, TOML or YAML, that says everything about it."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from lora_da.workflows.sources import AdapterShape
from lora_da.workflows.trainer import check_device

from lora_da.loading.precision import PRECISIONS
from lora_da_bench.report.plain import from_plain

TaskKind = Literal["generation", "choice", "classification"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUIRED_ROWS = 2


@dataclass(frozen=True)
class ModelChoice:
    """The base model.

    Attributes:
        name: A folder, a hub id or a GGUF file; "smollm2" and "minilm" name the small models on PyPI.
        dtype: auto, float32, bfloat16, float16, 8bit or 4bit.
        device: cpu, cuda …; by default a GPU where there is one.
        revision: Branch, tag or commit of a hub model.
    """

    name: str
    dtype: str = "auto"
    device: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in PRECISIONS:
            raise ValueError(f"model.dtype must be {' or '.join(PRECISIONS)}, not {self.dtype!r}")
        check_device(self.device)


@dataclass(frozen=True)
class TaskChoice:
    """The task and its data: what is trained on, what selects, and what is reported.

    The training and validation splits are drawn from ``train`` without overlap, the same for every seed.

    Attributes:
        kind: "generation" (answers after ``####``), "choice" (multiple choice by likelihood), "classification".
        train: A file or a hub id; ``$NAME`` stands for an environment variable.
        test: The same for the test split; a hub id takes its split "test".
        options: The task's own settings, such as ``prompt``, ``completion`` and ``max_length``.
        train_rows: At most so many rows to train on; 0 takes all that validation leaves.
        validation_rows: Rows of ``train`` set aside to select learning rate and checkpoint.
        test_rows: The first so many rows of ``test``; 0 takes all.
        accuracy: Whether answers are taken (generation is slow), and not only losses.
        apart_words: Leave training rows out that have so many words in a row in common with one of validation or test,
            where phrases of one text are rows of several splits; 0 leaves out only those that are the same.
    """

    kind: TaskKind
    train: str
    test: str
    options: dict[str, Any] = field(default_factory=dict)
    train_rows: int = 0
    validation_rows: int = 200
    test_rows: int = 0
    accuracy: bool = True
    apart_words: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise ValueError(f"task.kind must be {' or '.join(map(repr, get_args(TaskKind)))}, not {self.kind!r}")
        if min(self.train_rows, self.test_rows, self.apart_words) < 0 or self.validation_rows < _REQUIRED_ROWS:
            raise ValueError(
                "task.train_rows, task.test_rows and task.apart_words must be 0 or more, and task.validation_rows at "
                "least 2"
            )


@dataclass(frozen=True)
class Protocol:
    """How runs are made and learning rates selected.

    Attributes:
        learning_rates: The grid of every method: steps of at most √10 over at least two decades.
        steps: Optimiser steps of a run.
        batch_size: Examples a step.
        seeds: For the sweep.
        fresh_seeds: For what is reported; none of ``seeds``.
        evaluations: How often the losses are measured along a run.
        growth: How many points the grid may grow by on each side while an optimum lies at its edge.
    """

    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    steps: int = 100
    batch_size: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    fresh_seeds: tuple[int, ...] = (100, 101, 102, 103, 104, 105)  # of three, six pairs would need |t| > 10.9
    evaluations: int = 5
    growth: int = 2

    def __post_init__(self) -> None:
        rates = self.learning_rates
        for name in ("learning_rates", "seeds", "fresh_seeds"):
            if not getattr(self, name):
                raise ValueError(f"protocol.{name} is empty: give one at least")
        if any(rate <= 0 for rate in rates) or list(rates) != sorted(set(rates)):
            raise ValueError("protocol.learning_rates must be positive and ascending, each once")
        for name in ("seeds", "fresh_seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"protocol.{name} must have each seed once")
        if set(self.seeds) & set(self.fresh_seeds):
            raise ValueError(
                "protocol.fresh_seeds must share none with protocol.seeds: selection would flatter what is reported"
            )
        if min(self.steps, self.batch_size, self.evaluations) < 1 or self.growth < 0:
            raise ValueError(
                "protocol.steps, protocol.batch_size and protocol.evaluations must be at least 1, protocol.growth 0 or "
                "more"
            )

    def shortcomings(self) -> list[str]:
        """Where the protocol is weaker than it should be; the report says so."""
        found = []
        if max(self.learning_rates) / min(self.learning_rates) < 99:
            found.append("the grid of learning rates covers less than two decades")
        if any(upper / lower > 3.4 for lower, upper in zip(self.learning_rates, self.learning_rates[1:], strict=False)):
            found.append("the grid of learning rates has steps of more than √10")
        if len(self.seeds) < 3:
            found.append("fewer than three seeds select the learning rates")
        if len(self.fresh_seeds) < 3:
            found.append("fewer than three fresh seeds are reported")
        return found


@dataclass(frozen=True)
class CalibrationChoice:
    """The calibration sample that all methods that look at data share: one draw per seed, from the training rows.

    Attributes:
        examples: How many.
        batch_size: How many of them at once.
    """

    examples: int = 64
    batch_size: int = 8

    def __post_init__(self) -> None:
        if min(self.examples, self.batch_size) < 1:
            raise ValueError("calibration.examples and calibration.batch_size must be at least 1")


@dataclass(frozen=True)
class ForgettingChoice:
    """Unrelated text whose loss is measured before and after.

    Attributes:
        data: A text file or a data set with a column ``text``.
        blocks: How many blocks of ``length`` tokens.
        length: Tokens of a block.
    """

    data: str
    blocks: int = 32
    length: int = 256

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.length < 2:
            raise ValueError(
                "forgetting.blocks must be at least 1, forgetting.length at least 2: the first token is not predicted"
            )


@dataclass(frozen=True)
class Experiment:
    """A comparison of initialisations.

    Attributes:
        name: Of its folder under the results.
        methods: Names in the registry, with modifiers; "lora" is always among them.
        ranks: Each is a comparison of its own.
        alpha: LoRA's alpha, at every rank.
        rslora: Whether the scaling is alpha/√r.
        target_modules: all-linear, or names of layers separated by commas.
        charge_init: Also give vanilla LoRA the time that an init takes, with a schedule of its own.
    """

    name: str
    model: ModelChoice
    task: TaskChoice
    methods: tuple[str, ...] = ("lora", "pissa", "lora-one", "lora-da")
    ranks: tuple[int, ...] = (8,)
    alpha: int = 16
    rslora: bool = True
    target_modules: str = "all-linear"
    protocol: Protocol = field(default_factory=Protocol)
    calibration: CalibrationChoice = field(default_factory=CalibrationChoice)
    forgetting: ForgettingChoice | None = None
    charge_init: bool = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} must be letters, digits, '.', '_' and '-': it names a folder")
        if not self.ranks or len(set(self.ranks)) != len(self.ranks) or min(self.ranks) < 1:
            raise ValueError("ranks must be one or more numbers of at least 1, each once")
        if self.alpha < 1:
            raise ValueError(f"alpha must be at least 1, not {self.alpha}")
        if "lora" not in self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError('methods must be named once each, "lora" among them: everything is compared with it')
        if self.forgetting is not None and self.task.kind == "classification":
            raise ValueError("forgetting is the loss of a language model on text; a classifier has none")

    def shape(self, rank: int) -> AdapterShape:
        """The adapter at a rank."""
        return AdapterShape(rank, self.alpha, self.rslora, self.target_modules)


def load_experiment(path: Path) -> Experiment:
    """Read the description of a comparison from a TOML or YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It can't be parsed, or a key is unknown, missing or of the wrong kind; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            content: Any = tomllib.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            content = yaml.safe_load(text)
        else:
            raise ValueError("its suffix must be .toml, .yaml or .yml")
        return experiment_from(content)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def experiment_from(content: Any) -> Experiment:
    """An experiment from plain data, such as a parsed file or what :func:`dataclasses.asdict` gives."""
    parts = {
        "model": ModelChoice,
        "task": TaskChoice,
        "protocol": Protocol,
        "calibration": CalibrationChoice,
        "forgetting": ForgettingChoice,
    }
    made: Experiment = from_plain(Experiment, content, parts)
    return made


def expanded(path: str) -> str:
    """A path with its environment variables.

    Raises:
        ValueError: One of them is not set.
    """
    result = os.path.expandvars(path)
    if "$" in result:
        raise ValueError(f"{path} names an environment variable that is not set")
    return result
