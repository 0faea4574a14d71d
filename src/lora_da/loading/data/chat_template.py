"""What a tokenizer's chat template does with conversations: refuses them, leaves parts of them out, or writes them."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lora_da.loading.data.conversation import MessageForm, read_messages
from lora_da.system.time_limit import TooSlowError, time_limit

_SECONDS = 10.0  # to write one conversation, which takes a thousandth of one


def find_message_form(tokenizer: Any) -> MessageForm:
    """Find the form of messages that a tokenizer's chat template writes as they are meant.

    Templates that were made for images too may take parts alone; some write the arguments of tool calls as they are,
    and so have to be given JSON; and some ask for content beside tool calls.

    Returns:
        The first form in which a conversation with a tool call, or else one without, is written whole.

    Raises:
        ValueError: The template does not come to an end.
    """
    forms = [
        MessageForm(parts, as_text, beside)
        for parts, as_text in itertools.product((False, True), repeat=2)
        for beside in ((), (None,), ("",))
    ]
    for conversation in (_CALLING, _PLAIN):
        for form in forms:
            try:
                with time_limit(_SECONDS):
                    written = tokenizer.apply_chat_template(read_messages(conversation, form), tokenize=False)
            except TooSlowError as error:
                raise ValueError(f"the chat template has no end: {error}; give the tokenizer another") from error
            except Exception:  # it takes another form, or has no place for tools
                continue
            # As Python writes an object; and JSON that was made JSON once more.
            twice = ("'key': 'part3x'", '\\"key\\"')
            if all(part in written for part in _parts(conversation)) and not any(part in written for part in twice):
                return form
    return MessageForm()


def _parts(conversation: Sequence[Mapping[str, Any]]) -> list[str]:
    return re.findall(r"part\dx", json.dumps(conversation))


_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "part2x", "arguments": {"key": "part3x"}}}
_PLAIN: list[dict[str, Any]] = [{"role": "user", "content": "part0x"}, {"role": "assistant", "content": "part1x"}]
_CALLING: list[dict[str, Any]] = [
    _PLAIN[0],
    {"role": "assistant", "tool_calls": [_CALL]},
    {"role": "tool", "name": "part2x", "tool_call_id": "abcdefghi", "content": "part4x"},
    _PLAIN[1],
]


_REASONING = {"reasoning_content", "reasoning", "thinking"}


class TemplateCheck:
    """Puts conversations to a chat template.

    Of one conversation of each shape, each text is replaced by a mark of its own. What the template makes of it must
    hold every mark.
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
        self._write(messages, json.loads(tools) if tools else None, options)
        shape = json.dumps([marked, tool_list, options], default=str)
        if shape in self._known:
            return
        written = self._write(marked, tool_list, options)
        for mark, meaning in meanings.items():
            if mark not in written:
                raise ValueError(
                    f"has {meaning}, which the model's chat template leaves out; give the model one that writes it, or "
                    "take it out of the data"
                )
        self._known.add(shape)

    def _write(self, messages: Sequence[Any], tools: list[Any] | None, options: Mapping[str, Any]) -> str:
        try:
            with time_limit(_SECONDS):
                written: str = self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options)
        except Exception as error:  # templates raise what they like
            raise ValueError(f"is a conversation that the chat template refuses ({error})") from error
        return written


def _mark(number: int) -> str:
    return f"part{number}x"


def _marked(
    messages: Sequence[Mapping[str, Any]], tools: str | None
) -> tuple[list[Any], list[Any] | None, dict[str, str]]:
    """The conversation with marks, and what each mark stands for."""
    meanings: dict[str, str] = {}

    def mark(meaning: str) -> str:
        found = _mark(len(meanings))
        meanings[found] = meaning
        return found

    marked = [copy.deepcopy(dict(message)) for message in messages]
    for message in marked:
        content, meaning = message.get("content"), f"a message of the role {message['role']}"
        if isinstance(content, list):
            message["content"] = [part | {"text": mark(meaning)} for part in content]
        elif content is not None and content.strip():
            message["content"] = mark(meaning)
        for call in message.get("tool_calls", ()):
            _mark_function(call.get("function", call), mark, "a tool call")
    for name in _REASONING & marked[-1].keys():  # of other messages than the last it is left out on purpose
        marked[-1][name] = mark(f"{name} in its last message")
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
