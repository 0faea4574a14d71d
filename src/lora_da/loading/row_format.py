"""How rows of a data set become training examples: TRL's formats, whatever the columns are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_da.system.validation import check_fields, setting

if TYPE_CHECKING:
    import datasets

_KINDS = (("messages",), ("prompt", "completion"), ("text",))
_BESIDE = {"messages": ("tools", "chat_template_kwargs"), "prompt": ("tools", "chat_template_kwargs"), "text": ()}


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
        form: Names asked for. With none, ``messages``, ``prompt`` and ``completion``, then ``text`` are tried.

    Returns:
        The names by TRL's names, which are of exactly one kind: ``messages``, ``prompt`` with ``completion``, or
        ``text``.

    Raises:
        ValueError: A name is not there, the names do not make one kind, or nothing is recognised.
    """
    named, there = form.columns, ", ".join(available)
    for role, name in named.items():
        if name not in available:
            raise ValueError(f"There is no column {name!r} for the {role}; the columns are: {there}.")
    if tuple(named) in _KINDS:
        return named
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
    for kind in _KINDS:
        if set(kind) <= set(available):
            return {role: role for role in kind}
    raise ValueError(
        f"None of the columns messages, prompt with completion, or text is there; the columns are: {there}. Name the "
        "right ones with --prompt-column and --completion-column, with --text-column, or with --messages-column."
    )


def unused_columns(available: list[str], form: RowFormat) -> list[str]:
    """Names of the columns that say nothing to TRL."""
    columns = resolve_columns(available, form)
    used = {*columns.values(), *_BESIDE[next(iter(columns))]}
    return [name for name in available if name not in used]


def as_trl_rows(rows: datasets.Dataset, form: RowFormat) -> datasets.Dataset:
    """The columns that TRL reads, under its names for them."""
    columns = resolve_columns(rows.column_names, form)
    beside = [name for name in _BESIDE[next(iter(columns))] if name in rows.column_names]
    chosen = rows.select_columns([*columns.values(), *beside])
    return chosen.rename_columns({name: role for role, name in columns.items() if name != role})
