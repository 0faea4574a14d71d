"""Which columns of a data set are read, and what is done with their contents."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

from lora_da.system.validation import check_fields, setting

_NAMED = (("messages",), ("prompt", "completion"), ("text",))
_ALPACA = ("instruction", "output")
# Known by its columns, and not to be learnt as texts or conversations are.
_OTHER_SHAPES = {
    ("chosen", "rejected"): "pairs of a chosen and a rejected answer, for a loss of pairs such as DPO's. Give "
    "initialize_from_trainer a DPOTrainer of them, or initialize_lora_da_weights their batches with "
    "example_loss=lora_da.losses.DPO(); or learn the chosen answers alone, as completions, or as messages where they "
    "are whole conversations",
    ("image",): "images with texts: give initialize_from_trainer a trainer of the model with its processor",
    ("images",): "images with texts: give initialize_from_trainer a trainer of the model with its processor",
    ("input_ids",): "tokenised already: give initialize_lora_da_weights a data loader of them",
    ("prompt",): "prompts without completions, as GRPO takes them: there is nothing to learn. Name the column with the "
    "answers, if there is one",
}


@dataclass(frozen=True)
class RowFormat:
    """Names of the columns, and what is done with their contents.

    Attributes:
        prompt_column: What the model is given: text, or a list of messages.
        completion_column: What it should answer, of the same type.
        text_column: Whole text to learn.
        messages_column: Conversations.
        max_length: Examples lose what is behind so many tokens.
        assistant_only_loss: Whether the loss falls on the assistant's messages alone; TRL's option of that name.
    """

    panel: ClassVar[str] = "Rows of the data"

    prompt_column: str | None = setting(None, "The column with the prompt, if named otherwise.")
    completion_column: str | None = setting(None, "The column with the answer; the loss is taken there only.")
    text_column: str | None = setting(None, "The column with whole texts; the loss is taken everywhere.")
    messages_column: str | None = setting(
        None, "The column with conversations, if named otherwise; the loss is taken everywhere, as `trl sft` does."
    )
    max_length: int = setting(1024, "Longer examples are cut after this many tokens.", minimum=2)
    assistant_only_loss: bool = setting(
        False, "Take the loss of conversations in the assistant's messages only; give it to sft as well."
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are named, by TRL's names."""
        named = {
            "messages": self.messages_column,
            "prompt": self.prompt_column,
            "completion": self.completion_column,
            "text": self.text_column,
        }
        return {role: name for role, name in named.items() if name is not None}


def resolve_columns(available: list[str], form: RowFormat) -> dict[str, str]:
    """Check the columns asked for, or recognise the usual ones.

    Args:
        available: Names of the columns there are.
        form: Names asked for. With none, ``messages`` or ``conversations``, ``prompt`` and ``completion``, ``text``,
            then Alpaca's ``instruction`` and ``output``, perhaps with ``input``, are tried.

    Returns:
        The names by TRL's names, which are of exactly one kind: ``messages``, ``prompt`` with ``completion``, or
        ``text``; or Alpaca's by themselves.

    Raises:
        ValueError: A name is not there, the names do not make one kind, or nothing is recognised.
    """
    named, there = form.columns, ", ".join(available)
    for role, name in named.items():
        if name not in available:
            raise ValueError(f"There is no column {name!r} for the {role}; the columns are: {there}.")
    if tuple(named) in _NAMED:
        return named
    if tuple(named) == ("completion",) and "prompt" in available:
        return {"prompt": "prompt"} | named
    if len(named) == 1:
        (given,) = named
        missing = "completion" if given == "prompt" else "prompt"
        raise ValueError(
            f"A {given} column is named but no {missing} column; name it with --{missing}-column. "
            f"The columns are: {there}."
        )
    if named:
        raise ValueError(
            f"Columns for {', '.join(named)} are named at once; name prompt and completion, or text, or messages."
        )
    found = recognise_columns(available)
    if found is None:
        raise ValueError(
            "None of the columns messages, conversations, prompt with completion, text, or instruction with output is "
            f"there; the columns are: {there}. Name the right ones with --prompt-column and --completion-column, with "
            "--text-column, or with --messages-column."
        )
    return found


def recognise_columns(available: list[str]) -> dict[str, str] | None:
    """Recognise the usual columns, see :func:`resolve_columns`; None if there are none of them.

    Raises:
        ValueError: They are known, and are for something else.
    """
    there = set(available)
    other = next((shape for shape in _OTHER_SHAPES if set(shape) <= there), None)
    for kind in (("messages",), ("conversations",), *_NAMED[1:], _ALPACA):
        if set(kind) <= there and other in (None, ("prompt",)):
            optional = ["input"] if kind == _ALPACA and "input" in there else []
            return {"messages" if name == "conversations" else name: name for name in (*kind, *optional)}
    if other is not None:
        raise ValueError(f"The columns {', '.join(available)} are {_OTHER_SHAPES[other]}.")
    return None


def warn_of_unused_columns(available: list[str], form: RowFormat) -> None:
    """Name the columns that are not read, if there are any."""
    columns = resolve_columns(available, form)
    used = {*columns.values(), *columns_beside(columns)}
    unused = [name for name in available if name not in used]
    if unused:
        warnings.warn(f"columns that are not read: {', '.join(unused)}", stacklevel=3)


def columns_beside(columns: dict[str, str]) -> tuple[str, ...]:
    """Names of what may lie beside conversations, given the columns that are read: ShareGPT also has ``system``."""
    if "text" in columns or "instruction" in columns:
        return ()
    return ("tools", "chat_template_kwargs", *(("system",) if columns.get("messages") == "conversations" else ()))
