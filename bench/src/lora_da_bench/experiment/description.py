"""The description of a comparison: one TOML file that says everything about it."""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from lora_da_bench.experiment.validation import Section, validate_section

VANILLA = "lora"
"""The method that every other is compared with."""

_LARGEST_STEP = 3.4  # a little more than √10
_LEAST_SEEDS = 3


def _ascending(rates: tuple[float, ...]) -> tuple[float, ...]:
    if list(rates) != sorted(set(rates)):
        raise ValueError("must be ascending, each rate once")
    return rates


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must have each value once")
    return values


def _with_vanilla(methods: tuple[str, ...]) -> tuple[str, ...]:
    if VANILLA not in methods:
        raise ValueError('must have "lora" among them: everything is compared with it')
    return _distinct(methods)


def _folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} must be letters, digits, '.', '_' and '-': it names a folder")
    return name


Rates = Annotated[tuple[Annotated[FiniteFloat, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_ascending)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)]
Ranks = Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(_distinct)]


class ModelDescription(Section):
    """The base model."""

    name: str = Field(
        description="the base model: a folder, a hub id, a GGUF file, or `smollm2` or `minilm`, small models on PyPI"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "8bit", "4bit"] = Field(
        default="auto",
        description="the base model's precision: `auto` (as saved), `float32`, `bfloat16`, `float16`, `8bit` or `4bit`",
    )
    device: Literal["cpu", "cuda", "mps"] | None = Field(
        default=None, description="where the model goes: `cpu`, `cuda` or `mps`; without it a GPU where there is one"
    )
    revision: str | None = Field(default=None, description="the branch, tag or commit of a hub model")


class TaskDescription(Section):
    """The task and its data: what is trained on, what selects, and what is reported.

    The training and validation splits are drawn from ``train`` without overlap, the same for every seed.
    """

    kind: Literal["generation", "choice", "classification"] = Field(
        description="the kind of task: `generation`, `choice` or `classification`"
    )
    train: str = Field(description="the training data: a file or a hub id; `$NAME` stands for an environment variable")
    test: str = Field(description="the test data: a file, or a hub id, of which the split `test` is taken")
    train_rows: NonNegativeInt = Field(
        default=0, description="how many rows to train on at most; 0 takes all that validation leaves"
    )
    validation_rows: int = Field(
        default=200, ge=2, description="how many training rows are set aside to select learning rates by"
    )
    test_rows: NonNegativeInt = Field(default=0, description="how many test rows, from the first on; 0 takes all")
    accuracy: bool = Field(default=True, description="whether answers are taken at the end, and not only losses")
    apart_words: NonNegativeInt = Field(
        default=0,
        description="training rows with so many words in a row in common with a row of validation or test are left "
        "out; 0 leaves out only rows with the same words",
    )
    options: dict[str, Any] = Field(
        default={},
        description="settings of the kind of task, such as the columns of its data; docs/comparing.md lists them",
    )


class Protocol(Section):
    """How runs are made and learning rates selected."""

    learning_rates: Rates = Field(
        default=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        description="the grid of learning rates, the same for every method, ascending",
    )
    steps: PositiveInt = Field(default=100, description="how many optimiser steps a run has")
    batch_size: PositiveInt = Field(default=8, description="how many examples a step is trained on")
    seeds: Seeds = Field(default=(0, 1, 2), description="the seeds of the sweep over learning rates")
    fresh_seeds: Seeds = Field(  # of three, six pairs of methods would need |t| > 10.9
        default=(100, 101, 102, 103, 104, 105),
        description="the seeds of the runs that are reported, none of them a seed of the sweep",
    )
    evaluations: PositiveInt = Field(default=5, description="how often losses are measured along a run")
    growth: NonNegativeInt = Field(
        default=2, description="by how many points the grid of learning rates may grow on each side"
    )

    @model_validator(mode="after")
    def _fresh(self) -> Protocol:
        if set(self.seeds) & set(self.fresh_seeds):
            raise ValueError("fresh_seeds must share none with seeds: selection would flatter what is reported")
        return self

    def shortcomings(self) -> list[str]:
        """Where the protocol is weaker than it should be; the report says so."""
        rates = self.learning_rates
        found = []
        if max(rates) / min(rates) < 99:
            found.append("the grid of learning rates covers less than two decades")
        if any(upper / lower > _LARGEST_STEP for lower, upper in itertools.pairwise(rates)):
            found.append("the grid of learning rates has steps of more than √10")
        if len(self.seeds) < _LEAST_SEEDS:
            found.append("fewer than three seeds select the learning rates")
        if len(self.fresh_seeds) < _LEAST_SEEDS:
            found.append("fewer than three fresh seeds are reported")
        return found


class Calibration(Section):
    """The calibration sample that all methods that look at data share: one draw per seed, from the training rows."""

    examples: PositiveInt = Field(
        default=64, description="how many training rows the methods that look at data are given, drawn once a seed"
    )
    batch_size: PositiveInt = Field(default=8, description="how many calibration examples go through the model at once")


class Forgetting(Section):
    """Unrelated text whose loss is measured before and after."""

    data: str = Field(
        description="unrelated text (a text file, or data with a column `text`) whose loss is measured before and "
        "after; without it none is measured"
    )
    blocks: PositiveInt = Field(default=32, description="how many blocks of the unrelated text are read")
    length: int = Field(
        default=256, ge=2, description="how many tokens a block of the unrelated text has; the first is not predicted"
    )


class Experiment(Section):
    """A comparison of initialisations."""

    name: Annotated[str, AfterValidator(_folder)] = Field(
        description="the name of the comparison and of its folder among the results"
    )
    methods: Annotated[tuple[str, ...], AfterValidator(_with_vanilla)] = Field(
        default=("lora", "pissa", "lora-one", "lora-da"),
        description="the initialisations, `lora` always among them; `lora-da-bench compare --list` shows all",
    )
    ranks: Ranks = Field(default=(8,), description="the ranks of the adapters, each a comparison of its own")
    alpha: PositiveInt = Field(default=16, description="alpha of LoRA's scaling, the same at every rank")
    rslora: bool = Field(default=True, description="whether adapters are scaled by alpha/√r, or else by alpha/r")
    target_modules: str = Field(
        default="all-linear",
        min_length=1,
        description="the layers to adapt: `all-linear`, or their names separated by commas",
    )
    charge_init: bool = Field(
        default=True,
        description="whether LoRA also runs with the time of each initialisation added to its own, as more steps",
    )
    model: ModelDescription
    task: TaskDescription
    protocol: Protocol = Protocol()
    calibration: Calibration = Calibration()
    forgetting: Forgetting | None = None

    @model_validator(mode="after")
    def _forgets_text(self) -> Experiment:
        if self.forgetting is not None and self.task.kind == "classification":
            raise ValueError("forgetting is the loss of a language model on text; a classifier has none")
        return self


def load_experiment(path: Path) -> Experiment:
    """Read the description of a comparison from a TOML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It can't be parsed, or a key is unknown, missing or of the wrong kind; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix != ".toml":
        raise ValueError(f"{path}: a description is a TOML file, and its suffix must be .toml")
    try:
        return describe_experiment(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # tomllib's errors are of this kind
        raise ValueError(f"{path}: {error}") from error


def describe_experiment(content: Any) -> Experiment:
    """Make an experiment from plain data, such as a parsed file or what ``model_dump`` gives.

    Raises:
        ValueError: A key is unknown, missing or of the wrong kind; the message names it.
    """
    return validate_section(Experiment, content)


def expand_path(path: str) -> str:
    """Replace the environment variables in a path.

    Raises:
        ValueError: One of them is not set.
    """
    result = os.path.expandvars(path)
    if "$" in result:
        raise ValueError(f"{path} names an environment variable that is not set")
    return result
