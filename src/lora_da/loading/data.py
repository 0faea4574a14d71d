"""From rows to tokenised examples with a loss mask, and to padded batches."""

from __future__ import annotations

import functools
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import datasets
import torch
from torch import Tensor

__all__ = [
    "Columns",
    "collator",
    "encode_row",
    "joined_prompt",
    "pad_right",
    "padding_token",
    "resolve_columns",
    "tokenize",
]

_IGNORED = -100


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; ``None`` where there is no such column.

    Attributes:
        prompt: What the model is given: text, or a list of messages.
        completion: What it should answer, of the same type.
        text: Whole text to learn.
        messages: Whole conversations that end with the assistant's message.
    """

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    messages: str | None = None


def resolve_columns(available: Sequence[str], requested: Columns) -> Columns:
    """Check the columns asked for, or recognise the usual ones.

    Args:
        available: Names of the columns there are.
        requested: Names asked for. With none, ``messages``, ``prompt`` and ``completion``, then ``text`` are tried.

    Returns:
        Columns of exactly one kind: ``messages``, ``prompt`` with ``completion``, or ``text``.

    Raises:
        ValueError: If a name is not there, the names do not make one kind, or nothing is recognised.
    """
    there = ", ".join(available)
    named = {field.name: getattr(requested, field.name) for field in fields(requested)}
    named = {role: name for role, name in named.items() if name is not None}
    for role, name in named.items():
        if name not in available:
            raise ValueError(f"There is no column {name!r} for the {role}; the columns are: {there}.")
    if set(named) in ({"messages"}, {"prompt", "completion"}, {"text"}):
        return requested
    if len(set(named) & {"prompt", "completion"}) == 1 and len(named) == 1:
        given, missing = ("prompt", "completion") if "prompt" in named else ("completion", "prompt")
        raise ValueError(
            f"A {given} column is named but no {missing} column; name it with --{missing}-column. "
            f"The columns are: {there}."
        )
    if named:
        raise ValueError(
            f"Columns for {', '.join(named)} are named at once; name prompt and completion, or text, or messages."
        )
    if "messages" in available:
        return Columns(messages="messages")
    if "prompt" in available and "completion" in available:
        return Columns(prompt="prompt", completion="completion")
    if "text" in available:
        return Columns(text="text")
    raise ValueError(
        f"None of the columns messages, prompt with completion, or text is there; the columns are: {there}. Name the "
        "right ones with --prompt-column and --completion-column, or with --text-column."
    )


def tokenize(rows: datasets.Dataset, tokenizer: Any, columns: Columns, max_length: int) -> datasets.Dataset:
    """Tokenise every row and mark the tokens the loss counts.

    The loss counts all of a text and its EOS token; the completion of a prompt and its EOS token; the last assistant
    message of a conversation, with whatever the chat template closes it with. A prompt and its completion are joined
    as they are where whitespace meets, else with a line break, which belongs to the prompt. A token that reaches past
    the prompt's end belongs to the completion.

    Args:
        rows: The data set.
        tokenizer: A Hugging Face tokenizer. It decides about BOS.
        columns: From `resolve_columns`.
        max_length: Longer examples lose their end.

    Returns:
        Lists of int in the columns ``input_ids``, ``attention_mask`` and ``labels``; labels equal the input ids where
        the loss counts and are -100 elsewhere. Examples with nothing to learn from within ``max_length`` are left
        out, with a warning.

    Raises:
        ValueError: If a row is incomplete or malformed (the message names it), the tokenizer lacks what the data
            need, or nothing is left.
    """
    if max_length < 2:
        raise ValueError(f"max_length is {max_length}, and an example needs at least 2 tokens to learn from.")
    roles = {field.name: getattr(columns, field.name) for field in fields(columns)}
    roles = {role: name for role, name in roles.items() if name is not None}

    def encode(batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[list[int]]]:
        examples: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
        for position, index in enumerate(indices):
            ids, labels = encode_row({role: batch[name][position] for role, name in roles.items()}, index, tokenizer)
            ids, labels = ids[:max_length], labels[:max_length]
            # A causal model predicts no first token, so a label there is no label.
            if any(label != _IGNORED for label in labels[1:]):
                examples["input_ids"].append(ids)
                examples["attention_mask"].append([1] * len(ids))
                examples["labels"].append(labels)
        return examples

    integers = datasets.List(datasets.Value("int64"))
    examples = rows.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        features=datasets.Features(dict.fromkeys(("input_ids", "attention_mask", "labels"), integers)),
        keep_in_memory=True,
        load_from_cache_file=False,
        # The name of a cache entry, which nothing reads here; datasets would otherwise pickle the tokenizer for it.
        new_fingerprint=uuid.uuid4().hex,
        desc="Tokenising",
    )
    dropped = len(rows) - len(examples)
    advice = f"of {len(rows)} examples have no token to learn from within {max_length} tokens; raise the maximum length"
    if len(examples) == 0:
        raise ValueError(f"All {advice}.")
    if dropped:
        warnings.warn(f"{dropped} {advice} to keep them. They are left out.", stacklevel=2)
    return examples


def joined_prompt(prompt: str, completion: str) -> str:
    """A prompt as it stands before its completion: ended by a line break where no whitespace would part them."""
    touching = prompt and not prompt[-1].isspace() and not completion[:1].isspace()
    return f"{prompt}\n" if touching else prompt


def encode_row(row: Mapping[str, Any], index: int, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Input ids and labels of one row, before truncation; the row's keys are roles, not column names."""
    for role, value in row.items():
        if value is None:
            raise ValueError(f"Row {index} has no {role}; complete it or leave the row out.")
    types = {type(value) for value in row.values()}
    if types != {list if "messages" in row else str} and not ("prompt" in row and types == {list}):
        found = ", ".join(f"{role} of type {type(value).__name__}" for role, value in row.items())
        raise ValueError(
            f"Row {index} has {found}; text and prompt with completion must be strings, messages (or prompt and "
            "completion of a conversation) lists of messages."
        )
    if types == {list}:
        messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
        whole, start = _render(messages, index, tokenizer)
        return _split_labels(whole, start, tokenizer, special=False)
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token to end the examples with; set tokenizer.eos_token.")
    if "text" in row:
        ids = _with_eos(tokenizer(row["text"], verbose=False)["input_ids"], tokenizer)
        return ids, list(ids)
    prompt, completion = row["prompt"], row["completion"]
    if not completion.strip():
        raise ValueError(f"Row {index} has an empty completion; complete it or leave the row out.")
    prompt = joined_prompt(prompt, completion)
    ids, labels = _split_labels(prompt + completion, len(prompt), tokenizer, special=True)
    ids = _with_eos(ids, tokenizer)
    return ids, [*labels[: len(ids) - 1], ids[-1]]


def _render(messages: list[dict[str, Any]], index: int, tokenizer: Any) -> tuple[str, int]:
    """A conversation as text, and where the last message's content starts in it."""
    if tokenizer.chat_template is None:
        raise ValueError("The data are conversations but the tokenizer has no chat template; set one, or use text.")
    # Columns of records hold every key in every record; templates ask whether a key is there at all.
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        raise ValueError(f"Row {index} is no conversation that ends with the assistant's answer to a message.")
    if not messages[-1].get("content") and "tool_calls" not in messages[-1]:
        raise ValueError(f"Row {index} ends with an empty message of the assistant; complete it or leave the row out.")
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    prefix = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    if not whole.startswith(prefix):
        raise ValueError(
            f"Row {index}: the chat template does not render a conversation as its beginning followed by the last "
            "answer, so the answer cannot be told apart; use a template that does, or prompt and completion as text."
        )
    return whole, len(prefix)


def _split_labels(whole: str, start: int, tokenizer: Any, *, special: bool) -> tuple[list[int], list[int]]:
    """Input ids of a text, and labels for the tokens that reach past character ``start``."""
    if tokenizer.is_fast:
        encoded = tokenizer(whole, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
        ids = list(encoded["input_ids"])
        return ids, [
            token if end > start else _IGNORED for token, (_, end) in zip(ids, encoded["offset_mapping"], strict=True)
        ]
    prompt = list(tokenizer(whole[:start], add_special_tokens=special, verbose=False)["input_ids"])
    if special and prompt and prompt[-1] == tokenizer.eos_token_id:  # of a tokenizer that ends every text with EOS
        prompt.pop()
    completion = list(tokenizer(whole[start:], add_special_tokens=False, verbose=False)["input_ids"])
    return prompt + completion, [_IGNORED] * len(prompt) + completion


def _with_eos(ids: list[int], tokenizer: Any) -> list[int]:
    return list(ids) if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def collator(tokenizer: Any) -> Callable[[list[dict[str, list[int]]]], dict[str, Tensor]]:
    """Make a function that pads examples on the right into a batch.

    Args:
        tokenizer: Gives the padding token, or the EOS token in its place; it is not changed.

    Returns:
        A function from examples of `tokenize` to ``input_ids``, ``attention_mask`` and ``labels``, each (B, S) int64.

    Raises:
        ValueError: If the tokenizer has neither token.
    """
    fillers = {"input_ids": padding_token(tokenizer), "attention_mask": 0, "labels": _IGNORED}
    # A partial of a module's function, as loader processes need to pickle it.
    return functools.partial(pad_right, fillers)


def padding_token(tokenizer: Any) -> int:
    """The id of the padding token, or of the EOS token in its place.

    Raises:
        ValueError: If the tokenizer has neither token.
    """
    pad: int | None = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad is None:
        raise ValueError("The tokenizer has neither a padding nor an EOS token to pad with; set tokenizer.pad_token.")
    return pad


def pad_right(fillers: Mapping[str, int], examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The named lists of the examples as a batch, each (B, S) int64, filled up on the right."""
    width = max(len(example["input_ids"]) for example in examples)
    return {
        name: torch.tensor([list(row[name]) + [filler] * (width - len(row[name])) for row in examples])
        for name, filler in fillers.items()
    }
