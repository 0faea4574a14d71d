"""What a tokenizer's chat template does with conversations: refuses them, leaves parts of them out, or writes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def takes_arguments_as_text(tokenizer: Any) -> bool:
    """Whether the template writes the arguments of tool calls as they are, so that they have to be JSON already."""
    call = {"type": "function", "id": "abcdefghi", "function": {"name": "f", "arguments": {"key": _mark(0)}}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "name": "f", "tool_call_id": "abcdefghi", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    try:
        return f"'{_mark(0)}'" in tokenizer.apply_chat_template(messages, tokenize=False)  # as Python writes a dict
    except Exception:  # it may have no place for tools, nor a template
        return False


class TemplateCheck:
    """Puts conversations to a chat template, one of each shape.

    Each text of a conversation is replaced by a mark of its own. What the template makes of it must hold every mark.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: set[str] = set()

    def check(self, messages: Sequence[Mapping[str, Any]], tools: str | None, options: Mapping[str, Any]) -> None:
        """Check a conversation, with its tools as JSON and its variables for the template.

        Raises:
            ValueError: The template refuses it, or leaves something out; the message is to be put behind the row's
                name.
        """
        marked, tool_list, meanings = _marked(messages, tools)
        shape = json.dumps([marked, tool_list, options], default=str)
        if shape in self._known:
            return
        try:
            written = self._tokenizer.apply_chat_template(marked, tools=tool_list, tokenize=False, **options)
        except Exception as error:  # templates raise what they like
            raise ValueError(f"is a conversation that the chat template refuses ({error})") from error
        for mark, meaning in meanings.items():
            if mark not in written:
                raise ValueError(
                    f"has {meaning}, which the model's chat template leaves out; give the model one that writes it, or "
                    "take it out of the data"
                )
        self._known.add(shape)


def _mark(number: int) -> str:
    return f"part{number}x"


def _marked(messages: Sequence[Mapping[str, Any]], tools: str | None) -> tuple[list[Any], list[Any] | None, dict[str, str]]:
    """The conversation with marks, and what each mark stands for."""
    meanings: dict[str, str] = {}

    def mark(meaning: str) -> str:
        found = _mark(len(meanings))
        meanings[found] = meaning
        return found

    marked = [copy.deepcopy(dict(message)) for message in messages]
    for message in marked:
        if str(message.get("content", "")).strip():
            message["content"] = mark(f"a message of the role {message['role']}")
        for call in message.get("tool_calls", ()):
            _mark_function(call.get("function", call), mark, "a tool call")
    tool_list = json.loads(tools) if tools else None
    for tool in tool_list or ():
        _mark_function(tool.get("function", tool), mark, "tools", arguments=False)
    return marked, tool_list, meanings


def _mark_function(
    function: dict[str, Any], mark: Callable[[str], str], meaning: str, *, arguments: bool = True
) -> None:
    function["name"] = mark(meaning)
    given = function.get("arguments")
    if arguments and isinstance(given, str):
        function["arguments"] = json.dumps({"key": mark(f"arguments of {meaning}")})
    elif arguments and given:
        function["arguments"] = dict.fromkeys(given, mark(f"arguments of {meaning}"))
