from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_da_bench.experiment.description import expand_path, describe_experiment, load_experiment

ROOT = Path(__file__).parents[3]


def _content(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "a-comparison",
        "model": {"name": "smollm2"},
        "task": {"kind": "generation", "train": "a.jsonl", "test": "b.jsonl"},
    }
    return base | changes


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(
        'name = "a-comparison"\nranks = [2, 8]\n[model]\nname = "smollm2"\n'
        '[task]\nkind = "generation"\ntrain = "a.jsonl"\ntest = "b.jsonl"\n[protocol]\nlearning_rates = [1e-4, 1e-3]\n'
    )
    other = tmp_path / "a.yaml"
    other.write_text(yaml.safe_dump(_content(ranks=[2, 8], protocol={"learning_rates": [1e-4, 1e-3]})))
    assert load_experiment(toml) == load_experiment(other)
    assert load_experiment(toml).protocol.learning_rates == (1e-4, 1e-3)


def test_survives_json() -> None:
    experiment = describe_experiment(_content(forgetting={"data": "text.txt"}))
    assert describe_experiment(json.loads(json.dumps(dataclasses.asdict(experiment)))) == experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metods": []}, "metods is unknown; there are name, model"),
        ({"protocol": {"step": 3}}, r"protocol\.step is unknown"),
        ({"model": {}}, r"model\.name is missing"),
        ({"ranks": 8}, r"ranks must be a list of whole numbers, such as ranks = \[8\], not 8"),
        ({"protocol": {"seeds": 3}}, r"protocol\.seeds must be .*, such as seeds = \[0, 1, 2\], not 3"),
        ({"protocol": {"seeds": [0, True]}}, r"protocol\.seeds must be a list of whole numbers"),
        ({"protocol": {"seeds": []}}, r"protocol\.seeds is empty"),
        ({"protocol": {"seeds": [1, 1]}}, r"protocol\.seeds must have each seed once"),
        ({"protocol": {"learning_rates": []}}, r"protocol\.learning_rates is empty"),
        ({"protocol": {"learning_rates": ["fast"]}}, r"protocol\.learning_rates must be a list of numbers"),
        ({"protocol": {"steps": "many"}}, r"protocol\.steps must be a whole number, not 'many'"),
        ({"protocol": {"steps": 0}}, r"protocol\.steps, protocol\.batch_size and .* at least 1"),
        ({"protocol": 3}, "protocol must be a table"),
        ({"model": None}, "model must be a table"),
        ({"model": {"name": "smollm2", "dtype": "bf16"}}, r"model\.dtype must be auto or float32 .* not 'bf16'"),
        ({"calibration": {"examples": 0}}, r"calibration\.examples and"),
        ({"forgetting": {"data": "t", "length": 1}}, r"forgetting\.length at least 2"),
        ({"alpha": 0}, "alpha must be at least 1, not 0"),
        ({"task": {"kind": "choice", "train": "a"}}, r"task\.test is missing"),
        ({"task": {"kind": "choice", "train": "a", "test": None}}, r"task\.test must be text, not None"),
        (
            {"task": {"kind": "choice", "train": "a", "test": "b", "validation_rows": 1}},
            r"task\.validation_rows at least 2",
        ),
        ({"methods": ["pissa"]}, '"lora" among them'),
        ({"name": "../up"}, "names a folder"),
        ({"protocol": {"fresh_seeds": [0]}}, r"protocol\.fresh_seeds .* selection would flatter"),
        ({"protocol": {"learning_rates": [1e-3, 1e-4]}}, r"protocol\.learning_rates must be .*ascending"),
        (
            {"task": {"kind": "poetry", "train": "a", "test": "b"}},
            "task.kind must be 'generation' or 'choice' or 'classification', not 'poetry'",
        ),
        (
            {"task": {"kind": "classification", "train": "a", "test": "b"}, "forgetting": {"data": "t"}},
            "language model",
        ),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe_experiment(_content(**changes))


def test_a_file_that_is_no_description(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("name = ")
    with pytest.raises(ValueError, match=r"a\.toml"):
        load_experiment(path)
    with pytest.raises(FileNotFoundError):
        load_experiment(tmp_path / "none.toml")


def test_weak_protocols_are_named() -> None:
    assert describe_experiment(_content()).protocol.shortcomings() == []
    weak = {"learning_rates": [1e-4, 1e-3], "seeds": [0], "fresh_seeds": [1, 2]}
    found = describe_experiment(_content(protocol=weak)).protocol.shortcomings()
    assert len(found) == 4


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", "here")
    assert expand_path("$SOME_FOLDER/a") == "here/a"
    with pytest.raises(ValueError, match="not set"):
        expand_path("$NO_SUCH_VARIABLE_AT_ALL/a")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.*")), ids=lambda path: path.name)
def test_shipped_descriptions_are_valid(path: Path) -> None:
    experiment = load_experiment(path)
    for method in experiment.methods:
        from lora_da_bench.methods.registry import get_method

        get_method(method)
