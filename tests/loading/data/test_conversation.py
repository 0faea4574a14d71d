"""Conversations in other forms are those that they stand for."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from lora_da.loading.data.conversation import MessageForm, read_messages, read_tools, without_filled

PLAIN = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1.5}}}]}


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (PLAIN, PLAIN),
        ([{"from": "human", "value": "a b"}, {"from": "gpt", "value": "c"}], PLAIN),
        ([{"from": "user", "value": "a b", "weight": None}, {"from": "assistant", "value": "c"}], PLAIN),
        ([{"role": "user", "content": [{"type": "text", "text": "a "}, {"text": "b"}]}, PLAIN[1]], PLAIN),
        ([PLAIN[0] | {"tool_calls": None, "name": None}, PLAIN[1] | {"tool_calls": []}], PLAIN),
        (
            [{"role": None, "from": "human", "value": "a b", "content": None}, {"role": "assistant", "value": "c"}],
            PLAIN,
        ),
        ([{"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1.5}'}}], [CALL]),
        ([{"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1.5}}'}], [CALL]),
        ([CALL | {"content": None}], [CALL]),
        (
            [CALL | {"tool_calls": '[{"type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1.5}"}}]'}],
            [CALL],
        ),
    ],
)
def test_forms_of_one_conversation(given: Any, plain: Any) -> None:
    assert read_messages(given, MessageForm()) == plain


def test_arguments_become_json_for_templates_that_write_them_as_they_are() -> None:
    (message,) = read_messages([CALL], MessageForm(arguments_as_text=True))
    assert message["tool_calls"][0]["function"]["arguments"] == '{"x": 1.5}'
    assert read_messages([message], MessageForm(arguments_as_text=True)) == [message]
    assert read_messages([message], MessageForm()) == [CALL]


def test_content_as_the_template_takes_it() -> None:
    parts = [message | {"content": [{"type": "text", "text": message["content"]}]} for message in PLAIN]
    assert read_messages(PLAIN, MessageForm(parts=True)) == parts
    for empty in (None, ""):
        assert read_messages([CALL], MessageForm(beside_calls=(empty,))) == [CALL | {"content": empty}]
        assert read_messages([CALL | {"content": empty}], MessageForm()) == [CALL]
    assert read_messages([PLAIN[0] | {"content": ""}], MessageForm()) == [PLAIN[0] | {"content": ""}]


def test_nulls_that_structs_add_are_taken_away_and_others_are_not() -> None:
    rows = [{"m": [{"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}, "e": [None, 1]}]}]
    filled = datasets.Dataset.from_list(rows)
    expected = [{"a": 1, "b": {"c": 2}}, {"b": {"d": 3}, "e": [None, 1]}]
    assert without_filled(filled[0]["m"], filled.features["m"]) == expected
    exact = datasets.Dataset.from_dict(
        {"m": [rows[0]["m"]]}, features=datasets.Features({"m": datasets.List(datasets.Json())})
    )
    assert without_filled(exact[0]["m"], exact.features["m"]) == rows[0]["m"]


def test_tools_become_json() -> None:
    tools = [{"name": "f", "parameters": {}}]
    for given in (tools, '[{"name": "f", "parameters": {}}]', ['{"name": "f", "parameters": {}}']):
        assert read_tools(given) == '[{"name": "f", "parameters": {}}]'
    assert read_tools(None) is read_tools("") is read_tools([]) is read_tools("[]") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "b"], "several texts where one is expected; make each of several answers a row"),
        ([PLAIN], "no list of messages"),
        ({"text": ["a"]}, "no list of messages"),
        ([{"from": "narrator", "value": "a"}], "a message from 'narrator'; from may be human, gpt"),
        ([{"content": "a"}], "a message without a role"),
        ([{"role": "user", "text": "a"}], "a message of the role user without content"),
        ([{"from": "gpt", "value": None}], "a message of the role assistant without content"),
        ([{"role": "assistant", "content": "a", "weight": 0}], "a message that is not to be learnt"),
        ([{"role": "user", "content": [{"type": "image"}, {"text": "a"}]}], "content of type image.*initialize_from_t"),
        ([{"role": "user", "content": 5}], "content of type int"),
        ([CALL | {"tool_calls": ["f"]}], "a tool call that is no object"),
        ([CALL | {"tool_calls": "f("}], "the tool calls of a message as text that is no JSON"),
    ],
)
def test_what_is_no_conversation(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^has {message}"):
        read_messages(given, MessageForm())
