"""Rows that can't be used are named by their place in the file."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
from transformers import ByT5Tokenizer

from lora_da.loading.data.row_check import check_rows, touching_rows

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('start with the user') }}{% endif %}"
PAIR = {"prompt": "2 + 3 =", "completion": " 5"}


def tokenizer(template: str | None = TEMPLATE) -> Any:
    found = ByT5Tokenizer()
    found.chat_template = template
    return found


def conversation(*turns: tuple[str, str | None]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR | {"completion": ""}, "Row 41 has an empty completion"),
        (PAIR | {"completion": " \n"}, "Row 41 has an empty completion"),
        (PAIR | {"prompt": None}, "Row 41 has no prompt"),
        (PAIR | {"completion": 3}, "Row 41 has prompt of type str, completion of type int"),
        ({"text": " "}, "Row 41 has an empty text"),
        ({"text": ["a"]}, "Row 41 has text of type list"),
        ({"messages": "a"}, "Row 41 has messages of type str"),
        (conversation(), "Row 41 has no message of the assistant"),
        (conversation(("user", "a")), "Row 41 has no message of the assistant"),
        (conversation(("user", "a"), ("assistant", "")), "Row 41 has an empty message of the assistant"),
        ({"messages": [{"content": "a"}]}, "Row 41 has a message without a role"),
        ({"messages": [{"from": "human", "value": "a"}]}, r"Row 41 .* keys from and value.*rename them to role and"),
    ],
)
def test_unusable_rows(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_rows(datasets.Dataset.from_list([row]), [41], tokenizer())


def test_a_template_that_refuses_and_a_tokenizer_that_lacks_something() -> None:
    rows = datasets.Dataset.from_list(
        [conversation(("user", "a"), ("assistant", "b")), conversation(("assistant", "b"))]
    )
    with pytest.raises(ValueError, match=r"Row 9: the chat template refuses the conversation .*start with the user"):
        check_rows(rows, [4, 9], tokenizer(STRICT))
    with pytest.raises(ValueError, match="no chat template; set one"):
        check_rows(rows, [4, 9], tokenizer(None))
    endless = tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.eos_token"):
        check_rows(datasets.Dataset.from_list([PAIR]), [0], endless)


def test_usable_rows_pass() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
    check_rows(datasets.Dataset.from_list([{"messages": [{"role": "user", "content": "a"}, call]}]), [0], tokenizer())
    check_rows(datasets.Dataset.from_list([PAIR]), [0], tokenizer())
    parts = [{"type": "text", "text": "b"}]
    split = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": parts}]}
    check_rows(datasets.Dataset.from_list([split]), [0], tokenizer())


def test_prompts_that_touch_their_completion() -> None:
    pairs = [("a", "b"), ("a ", "b"), ("a", "\nb"), ("", "b")]
    rows = datasets.Dataset.from_list([{"prompt": prompt, "completion": completion} for prompt, completion in pairs])
    assert touching_rows(rows) == 1
    assert touching_rows(datasets.Dataset.from_list([{"text": "ab"}])) == 0
