"""Rows that TRL would stumble over, or read as something else, named by their place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets

from lora_da.loading.data.chat_template import TemplateCheck
from lora_da.loading.data.conversation import join_parts


def check_rows(rows: datasets.Dataset, tokenizer: Any) -> None:
    """Refuse rows that can't be made into examples, before any of them is tokenised.

    Args:
        rows: In TRL's columns, as :func:`lora_da.loading.data.trl_rows.as_trl_rows` makes them.
        tokenizer: The model's.

    Raises:
        ValueError: A row is incomplete or malformed, or the tokenizer lacks what the rows need; the message names the
            row, counted from 0, and says what to do.
    """
    template = TemplateCheck(tokenizer)
    first: set[type] = set()
    for place, row in enumerate(rows):
        texts = {role: row[role] for role in ("text", "prompt", "completion", "messages") if role in row}
        for role, value in texts.items():
            if value is None:
                raise ValueError(f"Row {place} has no {role}; complete it or leave the row out.")
        types = {type(value) for value in texts.values()}
        if types == {list} and "text" not in texts:
            if tokenizer.chat_template is None:
                raise ValueError(
                    "The data are conversations but the tokenizer has no chat template; set one, or use text."
                )
            _check_conversation(row, place, template)
        elif types == {str} and "messages" not in texts:
            _check_texts(row, place, tokenizer)
        else:
            found = ", ".join(f"{role} of type {type(value).__name__}" for role, value in texts.items())
            raise ValueError(
                f"Row {place} has {found}; text and prompt with completion must be strings, messages (or prompt and "
                "completion of a conversation) lists of messages."
            )
        first = first or types
        if types != first:
            kind = "text" if types == {str} else "a conversation"
            raise ValueError(f"Row {place} is {kind}, and the rows before it are not; bring all rows into one form.")


def touching_rows(rows: datasets.Dataset) -> int:
    """How many rows have a prompt and a completion, both text, with no white space where they meet."""
    if "prompt" not in rows.column_names or not isinstance(rows[0]["prompt"], str):
        return 0
    pairs = zip(rows["prompt"], rows["completion"], strict=True)
    return sum(1 for before, after in pairs if before and not before[-1].isspace() and not after[0].isspace())


def _check_texts(row: Mapping[str, Any], place: int, tokenizer: Any) -> None:
    if tokenizer.eos_token is None:
        raise ValueError("The tokenizer has no EOS token to end the examples with; set tokenizer.eos_token.")
    if "completion" in row and not row["completion"].strip():
        raise ValueError(f"Row {place} has an empty completion; complete it or leave the row out.")
    if row.get("tools"):
        raise ValueError(
            f"Row {place} has tools beside text, where no chat template writes them; make it a conversation, or leave "
            "the column out."
        )


def _check_conversation(row: Mapping[str, Any], place: int, template: TemplateCheck) -> None:
    messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    if row.get("prompt") == []:
        raise ValueError(f"Row {place} has a prompt without messages; complete it or leave the row out.")
    learnt = row.get("completion", messages)
    answers = [message for message in learnt if message["role"] == "assistant"]
    if not answers:
        raise ValueError(f"Row {place} has no message of the assistant to learn; complete it or leave the row out.")
    if not (join_parts(answers[-1].get("content")) or "").strip() and "tool_calls" not in answers[-1]:
        raise ValueError(f"Row {place} has an empty message of the assistant; complete it or leave the row out.")
    try:
        template.check(messages, row.get("tools"), row.get("chat_template_kwargs") or {})
    except ValueError as error:
        raise ValueError(f"Row {place} {error}.") from error
