from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_da_bench.experiment.description import describe_experiment, expand_path, load_experiment
from lora_da_bench.methods.registry import get_method
from lora_da_bench.tasks.registry import make_task

ROOT = Path(__file__).parents[3]


def _content(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "a-comparison",
        "model": {"name": "smollm2"},
        "task": {"kind": "generation", "train": "a.jsonl", "test": "b.jsonl"},
    }
    return base | changes


def test_a_toml_file(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(
        'name = "a-comparison"\nranks = [2, 8]\n[model]\nname = "smollm2"\n'
        '[task]\nkind = "generation"\ntrain = "a.jsonl"\ntest = "b.jsonl"\n[protocol]\nlearning_rates = [1e-4, 1]\n'
    )
    assert load_experiment(toml) == describe_experiment(_content(ranks=[2, 8], protocol={"learning_rates": [1e-4, 1]}))
    assert load_experiment(toml).protocol.learning_rates == (1e-4, 1.0)


def test_survives_json() -> None:
    experiment = describe_experiment(_content(forgetting={"data": "text.txt"}))
    assert describe_experiment(json.loads(experiment.model_dump_json())) == experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metods": []}, r"metods is unknown; did you mean methods\?"),
        ({"xyz": []}, "xyz is unknown; there are name, methods, ranks"),
        ({"protocol": {"step": 3}}, r"protocol\.step is unknown; did you mean steps\?"),
        (
            {"forgetting": {"date": "t"}},
            r"forgetting\.data is missing; forgetting\.date is unknown; did you mean data\?",
        ),
        ({"model": {}}, r"model\.name is missing"),
        ({"ranks": 8}, r"ranks should be a valid array, not 8"),
        ({"protocol": {"seeds": [0, True]}}, r"protocol\.seeds\.1 should be a valid integer, not true"),
        ({"protocol": {"seeds": []}}, r"protocol\.seeds .* at least 1 item"),
        ({"protocol": {"seeds": [1, 1]}}, r"protocol\.seeds: must have each value once"),
        ({"protocol": {"learning_rates": []}}, r"protocol\.learning_rates .* at least 1 item"),
        (
            {"protocol": {"learning_rates": ["fast"]}},
            r'protocol\.learning_rates\.0 should be a valid number, not "fast"',
        ),
        ({"protocol": {"learning_rates": [1e-3, float("nan")]}}, r"learning_rates\.1 should be a finite number"),
        ({"protocol": {"learning_rates": [1e-3, float("inf")]}}, r"learning_rates\.1 should be a finite number"),
        ({"protocol": {"learning_rates": [0.0]}}, r"learning_rates\.0 should be greater than 0"),
        ({"protocol": {"learning_rates": [1e-3, 1e-4]}}, r"protocol\.learning_rates: must be ascending"),
        ({"protocol": {"steps": "7"}}, r'protocol\.steps should be a valid integer, not "7"'),
        ({"protocol": {"steps": 0}}, r"protocol\.steps should be greater than 0"),
        ({"protocol": {"fresh_seeds": [0]}}, r"protocol: fresh_seeds .* selection would flatter"),
        ({"protocol": 3}, "protocol should be an object"),
        ({"model": {"name": "smollm2", "dtype": "bf16"}}, r"""model\.dtype should be 'auto', .* not "bf16\""""),
        ({"model": {"name": "smollm2", "device": "cuda:1"}}, r"model\.device should be 'cpu', 'cuda' or 'mps'"),
        ({"calibration": {"examples": 0}}, r"calibration\.examples should be greater than 0"),
        ({"forgetting": {"data": "t", "length": 1}}, r"forgetting\.length should be greater than or equal to 2"),
        ({"task": {"kind": "choice", "train": "a"}}, r"task\.test is missing"),
        ({"task": {"kind": "choice", "train": "a", "test": None}}, r"task\.test should be a valid string, not null"),
        ({"task": {"kind": "poetry", "train": "a", "test": "b"}}, "task.kind should be 'generation', 'choice' or"),
        ({"methods": ["pissa"]}, 'methods: must have "lora" among them'),
        ({"name": "../up"}, "names a folder"),
        (
            {"task": {"kind": "classification", "train": "a", "test": "b"}, "forgetting": {"data": "t"}},
            "a language model",
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
    path.rename(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match=r"its suffix must be \.toml"):
        load_experiment(tmp_path / "a.yaml")
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


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_shipped_descriptions_are_valid(path: Path) -> None:
    experiment = load_experiment(path)
    make_task(experiment.task.kind, experiment.task.options)
    for method in experiment.methods:
        get_method(method)
