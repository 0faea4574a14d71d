"""What chat templates leave out is found, whatever the words of the conversation are."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import ByT5Tokenizer

from lora_da.loading.data.chat_template import TemplateCheck, takes_arguments_as_text

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
CALLS = "{% for c in m.tool_calls %}{{ c.function.name }}{{ ARGUMENTS }}{% endfor %}"
WITH_CALLS = "{{ tools }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}" + CALLS
WITH_CALLS += "{% endif %}{% endfor %}"
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "1"},
    {"role": "user", "content": "11"},
    {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "1", "arguments": {"a": "1"}}}]},
    {"role": "tool", "content": "1"},
    {"role": "assistant", "content": "1"},
]


def check(template: str, messages: list[dict[str, Any]], tools: str | None = None) -> None:
    tokenizer: Any = ByT5Tokenizer()
    tokenizer.chat_template = template
    checking = TemplateCheck(tokenizer)
    for _ in range(2):  # of a shape that it has seen, too
        checking.check(messages, tools, {})


def test_a_template_that_writes_everything() -> None:
    template = WITH_CALLS.replace("ARGUMENTS", "c.function.arguments | tojson")
    check(template, CONVERSATION, '[{"type": "function", "function": {"name": "f"}}]')
    check(PLAIN, [message for message in CONVERSATION if "content" in message])


@pytest.mark.parametrize(
    ("template", "left_out"),
    [
        (PLAIN, "a tool call"),
        (WITH_CALLS.replace("ARGUMENTS", "c.type"), "arguments of a tool call"),
        (WITH_CALLS.replace("ARGUMENTS", "c.function.arguments").replace("{{ tools }}", ""), "tools"),
        ("{% for m in messages %}{% if m.role != 'system' %}{{ m }}{% endif %}{% endfor %}{{ tools }}", "role system"),
    ],
)
def test_what_is_left_out_is_told(template: str, left_out: str) -> None:
    with pytest.raises(ValueError, match=f"has .*{left_out}, which the model's chat template leaves out"):
        check(template, CONVERSATION, '[{"type": "function", "function": {"name": "f"}}]')


def test_a_template_that_refuses() -> None:
    with pytest.raises(ValueError, match=r"is a conversation that the chat template refuses \(no\)"):
        check("{{ raise_exception('no') }}", CONVERSATION)


@pytest.mark.parametrize(
    ("written", "as_text"), [("c.function.arguments | tojson", False), ("c.function.arguments", True)]
)
def test_arguments_are_given_as_the_template_writes_them(written: str, as_text: bool) -> None:
    tokenizer: Any = ByT5Tokenizer()
    tokenizer.chat_template = WITH_CALLS.replace("ARGUMENTS", written)
    assert takes_arguments_as_text(tokenizer) is as_text
    tokenizer.chat_template = None
    assert takes_arguments_as_text(tokenizer) is False
