"""Experiments from flags; whole commands are in ``test_compare``."""

from __future__ import annotations

import pytest
import typer

from lora_da_bench.cli.flags import experiment_of_flags, show_flag
from lora_da_bench.experiment.description import describe_experiment

NEEDED = {"model": "tiny", "train": "a.jsonl", "test": "b.jsonl"}


def test_flags_say_what_a_description_says() -> None:
    flags = {
        "methods": "lora-da,pissa,lora",
        "ranks": "2, 4",
        "steps": 7,
        "learning_rates": "1e-3,2",
        "forgetting": "c",
    }
    wanted = {
        "name": "comparison",
        "model": {"name": "tiny"},
        "task": {"kind": "generation", "train": "a.jsonl", "test": "b.jsonl"},
        "methods": ["lora", "lora-da", "pissa"],
        "ranks": [2, 4],
        "protocol": {"steps": 7, "learning_rates": [1e-3, 2.0]},
        "forgetting": {"data": "c"},
    }
    assert experiment_of_flags(NEEDED | flags) == describe_experiment(wanted)


@pytest.mark.parametrize("name", list(NEEDED))
def test_what_is_needed_is_named(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"give --{name}, or describe"):
        experiment_of_flags({key: value for key, value in NEEDED.items() if key != name})


def test_a_list_that_can_not_be_read_is_named_as_it_was_typed() -> None:
    assert show_flag("learning_rates") == "learning-rates"
    with pytest.raises(typer.BadParameter, match="--learning-rates must be numbers separated by commas, not '1e-3;2'"):
        experiment_of_flags(NEEDED | {"learning_rates": "1e-3;2"})
