"""Conversations as chat templates take them: messages with role and content, tools, and nothing that storage added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Who speaks in ShareGPT's messages, which have from and value.
_SPEAKERS = {"human": "user", "gpt": "assistant", "observation": "tool", "function_call": "assistant"}
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class MessageForm:
    """What a chat template takes where there is more than one way to say a thing.

    Attributes:
        parts: Content as a list of one part, and not as text.
        arguments_as_text: The arguments of tool calls as JSON, and not as objects.
        beside_calls: What content a message with tool calls has that says nothing: none at all, or this one.
    """

    parts: bool = False
    arguments_as_text: bool = False
    beside_calls: tuple[str | None, ...] = ()


def without_filled(value: Any, feature: Any) -> Any:
    """Take the keys without a value out of structs, as which Arrow and Parquet give all objects one set of keys.

    What is stored as the text of JSON stays as it is.
    """
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {key: without_filled(part, feature[key]) for key, part in value.items() if part is not None}
    item = getattr(feature, "feature", None)
    return [without_filled(part, item) for part in value] if isinstance(value, list) else value


def read_messages(value: Any, form: MessageForm) -> list[dict[str, Any]]:
    """Bring a conversation into the form that a chat template takes.

    Messages of ShareGPT get role and content, and a function_call, as OpenAI had it before tool calls, becomes one.
    Content in parts, all of them text, is joined as it is. Keys without a value are left out, for a template might
    write "None".

    Args:
        value: A list of messages, or the text of one as JSON.
        form: The template's.

    Raises:
        ValueError: It is no such list; the message says what is wrong, and is to be put behind the row's name.
    """
    if isinstance(value, str):
        value = _parsed(value, "messages")
    if isinstance(value, list) and value and all(isinstance(message, str) for message in value):
        raise ValueError("has several texts where one is expected; make each of several answers a row of its own")
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise ValueError("has no list of messages where a conversation is expected")
    return [_read_message(dict(message), form) for message in value]


def _read_message(message: dict[str, Any], form: MessageForm) -> dict[str, Any]:
    message = _of_sharegpt({key: part for key, part in message.items() if part is not None})
    if not isinstance(message.get("role"), str):
        raise ValueError("has a message without a role; messages need role and content, or from and value")
    if any(message.get(key) in (0, False) for key in ("weight", "train")):
        raise ValueError(
            "has a message that is not to be learnt, as its weight or train says, and all messages are learnt alike; "
            "make what comes before an answer its prompt, and the answer the completion"
        )
    content, calls = join_parts(message.pop("content", None)), message.pop("tool_calls", None)
    if isinstance(calls, str):
        calls = _parsed(calls, "the tool calls of a message")
    if "function_call" in message:
        calls = [*(calls or ()), {"type": "function", "function": message.pop("function_call")}]
    read: dict[str, Any] = {"role": message.pop("role")}
    if content is None and not calls:
        raise ValueError(f"has a message of the role {read['role']} without content; complete it or leave the row out")
    if content is not None and (content.strip() or not calls):
        read["content"] = [{"type": "text", "text": content}] if form.parts else content
    elif calls and form.beside_calls:
        (read["content"],) = form.beside_calls
    if calls:
        read["tool_calls"] = [_read_call(call, form.arguments_as_text) for call in calls]
    return read | message


def _of_sharegpt(message: dict[str, Any]) -> dict[str, Any]:
    speaker, value = message.pop("from", None), message.pop("value", None)
    said = {} if value is None else {"content": value}
    if speaker is not None:
        role = _SPEAKERS.get(speaker, speaker)
        if "role" not in message and role not in _ROLES:
            raise ValueError(f"has a message from {speaker!r}; from may be {', '.join([*_SPEAKERS, *_ROLES])}")
        said["role"] = role
        if speaker == "function_call" and value is not None:
            said = {"role": role, "function_call": _parsed(value, "a function_call")}
    return said | message


def join_parts(content: Any) -> str | None:
    """Content, which may be in parts, as one text."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"has content of type {type(content).__name__}; it must be text, or parts that are text")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            texts.append(text)
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(
                f"has content of type {kind}, which is not read here: give initialize_from_trainer a trainer of the "
                "model with its processor, or leave the row out"
            )
    return "".join(texts)


def _read_call(call: Any, arguments_as_text: bool) -> Any:
    if not isinstance(call, Mapping):
        raise ValueError("has a tool call that is no object; it needs function, with name and arguments")
    inner = "function" in call
    function = dict(call["function"] if inner else call)
    arguments = function.get("arguments")
    if isinstance(arguments, str) and not arguments_as_text:
        function["arguments"] = arguments = _parsed(arguments, "the arguments of a tool call")
    elif isinstance(arguments, Mapping) and arguments_as_text:
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": function} if inner else function


def read_tools(value: Any) -> str | None:
    """Tools as the JSON of a list, as TRL takes them; None where there are none.

    Raises:
        ValueError: As :func:`read_messages`.
    """
    tools = _parsed(value, "the tools") if isinstance(value, str) and value else value
    if not tools:
        return None
    if isinstance(tools, list):
        tools = [_parsed(tool, "a tool") if isinstance(tool, str) else tool for tool in tools]
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("has tools that are no list of objects")
    return json.dumps(tools, ensure_ascii=False)


def _parsed(text: Any, what: str) -> Any:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"has {what} as text that is no JSON ({error})") from error
    if not isinstance(found, dict | list):
        raise ValueError(f"has {what} as JSON of neither an object nor a list")
    return found
