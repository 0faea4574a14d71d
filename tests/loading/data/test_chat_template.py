"""What chat templates leave out is found, whatever the words of the conversation are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import ByT5Tokenizer

from lora_da.loading.data.chat_template import TemplateCheck, find_message_form
from lora_da.loading.data.conversation import MessageForm, read_messages

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
CALLS = "{% for c in m.tool_calls %}{{ c.function.name }}{{ ARGUMENTS }}{% endfor %}"
WITH_CALLS = "{{ tools }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}" + CALLS
WITH_CALLS += "{% endif %}{% endfor %}"
BESIDE = MessageForm(beside_calls=("",))
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


def test_reasoning_may_be_left_out_of_earlier_messages_alone() -> None:
    last = "{{ messages[-1].reasoning_content }}" + PLAIN
    said = [CONVERSATION[1], CONVERSATION[4] | {"reasoning_content": "1"}]
    check(last, said * 2)
    check(PLAIN, [*said, *said[:1], CONVERSATION[4]])
    with pytest.raises(ValueError, match="has reasoning_content in its last message, which"):
        check(PLAIN, said)


def test_a_template_that_refuses() -> None:
    with pytest.raises(ValueError, match=r"is a conversation that the chat template refuses \(no\)"):
        check("{{ raise_exception('no') }}", CONVERSATION)
    tokenizer: Any = ByT5Tokenizer()
    tokenizer.chat_template = PLAIN + "{% if '2' in messages[0].content %}{{ raise_exception('two') }}{% endif %}"
    checking = TemplateCheck(tokenizer)
    checking.check(CONVERSATION[:2], None, {})
    with pytest.raises(ValueError, match=r"refuses \(two\)"):  # for what it says, and not for its shape
        checking.check([CONVERSATION[0] | {"content": "2"}, CONVERSATION[1]], None, {})


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (PLAIN, MessageForm()),
        (WITH_CALLS.replace("ARGUMENTS", "c.function.arguments | tojson"), MessageForm()),
        (WITH_CALLS.replace("ARGUMENTS", "c.function.arguments"), MessageForm(arguments_as_text=True)),
        (WITH_CALLS.replace("ARGUMENTS", "c | tojson").replace("{{ m.content", "{{ m.content + ''"), BESIDE),
        ("{% for m in messages %}<{{ m.role }}>{{ m.content[0].text }}{% endfor %}", MessageForm(parts=True)),
        ("{{ raise_exception('no') }}", MessageForm()),
        (None, MessageForm()),
    ],
)
def test_the_form_that_a_template_takes(template: str | None, form: MessageForm) -> None:
    tokenizer: Any = ByT5Tokenizer()
    tokenizer.chat_template = template
    assert find_message_form(tokenizer) == form


def test_templates_that_trl_brings_are_given_what_they_write() -> None:
    folder = Path(trl.__file__).parent / "chat_templates"
    for name in ("qwen2_5", "qwen3", "llama3_1", "gptoss", "gemma4", "lfm2_2_5", "deepseekv3"):
        if not (file := folder / f"{name}.jinja").is_file():
            pytest.skip("another version of TRL, with other templates")
        tokenizer: Any = ByT5Tokenizer()
        tokenizer.chat_template = file.read_text(encoding="utf-8")
        tokenizer.bos_token = "<s>"
        call = {"type": "function", "function": {"name": "f", "arguments": {"city": "Paris"}}}
        said = [CONVERSATION[1], {"role": "assistant", "tool_calls": [call]}, *CONVERSATION[3:]]
        messages = read_messages(said, find_message_form(tokenizer))
        TemplateCheck(tokenizer).check(messages, None, {})
        assert "'city': 'Paris'" not in (written := tokenizer.apply_chat_template(messages, tokenize=False))
        assert '\\"city' not in written
