from __future__ import annotations

from typing import Any

import pytest

from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.registry import TASKS, make_task, parse_options


@pytest.mark.parametrize("kind", ["generation", "choice", "classification", "text"])
def test_every_kind_is_made(kind: str) -> None:
    task = make_task(kind, {"max_length": 7})
    assert type(task) is TASKS[kind]
    assert task.max_length == 7  # type: ignore[attr-defined]
    assert (task.class_count is None) == (task.head == "language model")


def test_lists_of_a_settings_file_become_tuples_of_strings() -> None:
    assert make_task("classification", {"classes": [0, 1, 2]}) == Classification(classes=("0", "1", "2"))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("summary", {}, "the task 'summary' is unknown; there are generation, choice, classification, text"),
        ("text", {"prompt": "q"}, "the task text has no option 'prompt'; there are text, max_length"),
        ("text", {"max_length": "7"}, "the option max_length of the task text must be of type int, not '7'"),
        ("classification", {"classes": "0,1"}, r"classes of the task classification must be of type tuple\[str"),
    ],
)
def test_errors_list_what_there_is(kind: str, options: dict[str, Any], message: str) -> None:
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
