from __future__ import annotations

from typing import Any

import pytest

from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.registry import TASKS, make_task, parse_options


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_is_made(kind: str) -> None:
    task = make_task(kind, {"max_length": 7})
    assert type(task) is TASKS[kind]
    assert task.max_length == 7
    assert (task.class_count is None) == (task.head == "language model")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("summary", {}, "the task 'summary' is unknown; there are generation, choice, classification"),
        ("generation", {"promt": "q"}, r"task\.options\.promt is unknown; did you mean prompt\?"),
        ("generation", {"max_length": "7"}, r'task\.options\.max_length should be a valid integer, not "7"'),
        ("generation", {"max_new_tokens": 0}, r"max_new_tokens should be greater than 0"),
        ("classification", {"classes": "0,1"}, r"classes should be a valid array"),
        ("classification", {"classes": ["0"]}, "at least 2 items"),
        ("classification", {"classes": ["0", "0"]}, "must be each once"),
    ],
)
def test_errors_name_the_option(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(kind, options)


def test_options_of_the_command_line() -> None:
    options = parse_options("classification", ["text=a=b", "classes=no, yes", "max_length=7", "pair=c,d"])
    assert options == {"text": "a=b", "classes": ["no", "yes"], "max_length": 7, "pair": "c,d"}
    assert make_task("classification", options) == Classification(
        text="a=b", classes=("no", "yes"), max_length=7, pair="c,d"
    )


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("choice", "prompt", "'prompt' must be NAME=VALUE, such as prompt=question"),
        ("choice", "max_length=long", "max_length must be a whole number, not 'long'"),
        ("summary", "a=b", "the task 'summary' is unknown"),
    ],
)
def test_options_of_the_command_line_that_are_wrong(kind: str, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_options(kind, [option])
