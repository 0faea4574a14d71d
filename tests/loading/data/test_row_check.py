"""Rows that can't be used are named by their place in the data."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pytest
from transformers import ByT5Tokenizer

from lora_da.loading.data.json_text import read_json
from lora_da.loading.data.row_check import check_rows, touching_rows

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('start with the user') }}{% endif %}"
PAIR = {"prompt": "2 + 3 =", "completion": " 5"}
ANSWER = {"role": "assistant", "content": "b"}


def tokenizer(template: str | None = TEMPLATE) -> Any:
    found = ByT5Tokenizer()
    found.chat_template = template
    return found


def conversation(*turns: tuple[str, str | None]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def table(*rows: dict[str, Any]) -> datasets.Dataset:
    return read_json(json.dumps(list(rows)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR | {"completion": ""}, "Row 1 has an empty completion"),
        (PAIR | {"completion": " \n"}, "Row 1 has an empty completion"),
        (PAIR | {"prompt": None}, "Row 1 has no prompt"),
        (PAIR | {"tools": '[{"name": "f"}]'}, "Row 1 has tools beside text"),
        (PAIR | {"completion": 3}, "Row 1 has prompt of type str, completion of type int"),
        (PAIR | {"completion": ["a"]}, "Row 1 has prompt of type str, completion of type list"),
        (
            {"prompt": [{"role": "user", "content": "a"}], "completion": [ANSWER]},
            "Row 1 is a conversation, and the rows before it are not",
        ),
    ],
)
def test_unusable_pairs(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_rows(table(PAIR, row), tokenizer())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": ["a"]}, "Row 0 has text of type list"),
        ({"messages": "a"}, "Row 0 has messages of type str"),
        (conversation(), "Row 0 has no message of the assistant"),
        ({"prompt": [], "completion": [ANSWER]}, "Row 0 has a prompt without messages"),
        (conversation(("user", "a")), "Row 0 has no message of the assistant"),
        ({"prompt": [ANSWER], "completion": [{"role": "user", "content": "a"}]}, "Row 0 has no message of the assist"),
        (conversation(("user", "a"), ("assistant", "")), "Row 0 has an empty message of the assistant"),
        (conversation(("user", "a"), ("assistant", "b")) | {"tools": '[{"name": "f"}]'}, "Row 0 has tools, which the"),
    ],
)
def test_other_unusable_rows(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_rows(table(row), tokenizer())


def test_a_template_that_refuses_and_a_tokenizer_that_lacks_something() -> None:
    rows = table(conversation(("user", "a"), ("assistant", "b")), conversation(("assistant", "b")))
    with pytest.raises(ValueError, match=r"Row 1 is a conversation that the chat template refuses .*start with the us"):
        check_rows(rows, tokenizer(STRICT + TEMPLATE))
    with pytest.raises(ValueError, match="no chat template; set one"):
        check_rows(rows, tokenizer(None))
    endless = tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.eos_token"):
        check_rows(table(PAIR), endless)


def test_usable_rows_pass() -> None:
    check_rows(table(PAIR), tokenizer())
    check_rows(table({"text": ""}), tokenizer())  # as between the paragraphs of many data sets
    check_rows(table({"prompt": [{"role": "user", "content": "a"}], "completion": [ANSWER]}), tokenizer())


def test_prompts_that_touch_their_completion() -> None:
    pairs = [("a", "b"), ("a ", "b"), ("a", "\nb"), ("", "b")]
    rows = datasets.Dataset.from_list([{"prompt": prompt, "completion": completion} for prompt, completion in pairs])
    assert touching_rows(rows) == 1
    assert touching_rows(datasets.Dataset.from_list([{"text": "ab"}])) == 0
