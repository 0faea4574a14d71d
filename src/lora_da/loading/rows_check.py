"""Rows that TRL would stumble over, or read as something else, named by their place in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import datasets


def check_rows(rows: datasets.Dataset, places: Sequence[int], tokenizer: Any) -> None:
    """Refuse rows that can't be made into examples, before any of them is tokenised.

    Args:
        rows: In TRL's columns.
        places: Which row of the file each of them is.
        tokenizer: The model's.

    Raises:
        ValueError: A row is incomplete or malformed, or the tokenizer lacks what the rows need; the message names the
            row, counted from 0, and says what to do.
    """
    for place, row in zip(places, rows, strict=True):
        texts = {role: row[role] for role in ("text", "prompt", "completion", "messages") if role in row}
        for role, value in texts.items():
            if value is None:
                raise ValueError(f"Row {place} has no {role}; complete it or leave the row out.")
        types = {type(value) for value in texts.values()}
        if types == {list} and "text" not in texts:
            _check_conversation(row, place, tokenizer)
        elif types == {str} and "messages" not in texts:
            _check_texts(texts, place, tokenizer)
        else:
            found = ", ".join(f"{role} of type {type(value).__name__}" for role, value in texts.items())
            raise ValueError(
                f"Row {place} has {found}; text and prompt with completion must be strings, messages (or prompt and "
                "completion of a conversation) lists of messages."
            )


def touching_rows(rows: datasets.Dataset) -> int:
    """How many rows have a prompt and a completion, both text, with no white space where they meet."""
    if "prompt" not in rows.column_names or not isinstance(rows[0]["prompt"], str):
        return 0
    pairs = zip(rows["prompt"], rows["completion"], strict=True)
    return sum(1 for before, after in pairs if before and not before[-1].isspace() and not after[0].isspace())


def _check_texts(texts: Mapping[str, str], place: int, tokenizer: Any) -> None:
    if tokenizer.eos_token is None:
        raise ValueError("The tokenizer has no EOS token to end the examples with; set tokenizer.eos_token.")
    for role in ("text", "completion"):
        if role in texts and not texts[role].strip():
            raise ValueError(f"Row {place} has an empty {role}; complete it or leave the row out.")


def _check_conversation(row: Mapping[str, Any], place: int, tokenizer: Any) -> None:
    if tokenizer.chat_template is None:
        raise ValueError("The data are conversations but the tokenizer has no chat template; set one, or use text.")
    messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    for message in messages:
        if isinstance(message, dict) and "from" in message and "value" in message:
            raise ValueError(
                f"Row {place} has messages with the keys from and value (ShareGPT's), which no chat template reads; "
                "rename them to role and content, and the roles human and gpt to user and assistant."
            )
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f"Row {place} has a message without a role; messages need role and content.")
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers or ("completion" in row and not row["completion"]):
        raise ValueError(f"Row {place} has no message of the assistant to learn; complete it or leave the row out.")
    if not answers[-1].get("content") and not answers[-1].get("tool_calls"):
        raise ValueError(f"Row {place} has an empty message of the assistant; complete it or leave the row out.")
    try:
        tools = row.get("tools")
        tokenizer.apply_chat_template(
            messages,
            tools=json.loads(tools) if isinstance(tools, str) else tools,
            tokenize=False,
            **(row.get("chat_template_kwargs") or {}),
        )
    except Exception as error:  # templates raise what they like
        raise ValueError(f"Row {place}: the chat template refuses the conversation ({error}).") from error
