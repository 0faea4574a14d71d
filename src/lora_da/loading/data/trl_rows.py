"""Rows in TRL's formats, whatever form they come in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets

from lora_da.loading.data.chat_template import find_message_form
from lora_da.loading.data.conversation import MessageForm, read_messages, read_tools, without_filled
from lora_da.loading.data.json_text import JsonText
from lora_da.loading.data.row_check import check_rows
from lora_da.loading.data.row_format import RowFormat, columns_beside, resolve_columns
from lora_da.loading.data.text_cut import TextCut

# Of tatsu-lab/alpaca's column "text".
_INSTRUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
_INSTRUCTION_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


def as_trl_rows(rows: datasets.Dataset, form: RowFormat, tokenizer: Any) -> datasets.Dataset:
    """The columns that TRL reads, under its names for them, conversations as the tokenizer's chat template takes them.

    Alpaca's columns become a prompt, worded as Alpaca's own, and a completion. All rows are checked, so that none is
    found to be useless only when an adapter has been made, or trained for an hour. Of texts that are far longer than
    examples may be, what no example will hold is left out.

    Raises:
        ValueError: See :func:`resolve_columns` and :func:`check_rows`; or a row can't be read. The message names its
            place in ``rows``, counted from 0.
    """
    columns = resolve_columns(rows.column_names, form)
    label = rows.features.get("label")
    if "completion" in columns and label is not None and getattr(label, "dtype", None) == "bool":
        raise ValueError(
            "The column label tells good answers from bad ones, as KTO's does, and all would be learnt alike: keep the "
            "rows with good ones and leave the column out."
        )
    beside = [name for name in columns_beside(columns) if name in rows.column_names]
    chosen = rows.select_columns([*columns.values(), *beside])
    chosen = chosen.rename_columns({name: role for role, name in columns.items() if name != role})
    cut = TextCut(tokenizer, form.max_length)
    with without_progress_bars():
        if "instruction" in columns:
            chosen = chosen.map(_alpaca_row, with_indices=True, remove_columns=list(columns))
        if "messages" in columns or not all(_is_text(kind) for kind in chosen.features.values()):
            chosen = _conversations(chosen, tokenizer, cut)
        elif any(cut.may_cut(text) for name in chosen.column_names for text in chosen[name]):
            chosen = chosen.map(cut.cut_row)
    check_rows(chosen, tokenizer)
    return chosen


def _alpaca_row(row: dict[str, Any], place: int) -> dict[str, str]:
    for name, value in row.items():
        if not isinstance(value, str) and not (name == "input" and value is None):
            raise ValueError(f"Row {place} has no text as its {name}; complete it or leave the row out.")
    form = _INSTRUCTION_WITH_INPUT if (row.get("input") or "").strip() else _INSTRUCTION
    return {"prompt": form.format_map(row), "completion": row["output"]}


def _is_text(kind: Any) -> bool:
    texts = ("string", "large_string", "string_view")
    return getattr(kind, "dtype", None) in texts and not isinstance(kind, JsonText)


def _conversations(rows: datasets.Dataset, tokenizer: Any, cut: TextCut) -> datasets.Dataset:
    text = datasets.Value("string")
    kinds = {
        name: text if name == "tools" or (_is_text(kind) and name != "messages") else JsonText()
        for name, kind in rows.features.items()
        if name != "system"  # which becomes a message
    }
    how = {"features": dict(rows.features), "kinds": kinds, "form": find_message_form(tokenizer), "cut": cut}
    # datasets would write objects as structs again, and so the rows give their texts.
    as_texts = datasets.Features(dict.fromkeys(kinds, text))
    others = [name for name in rows.column_names if name not in kinds]
    texts = rows.map(_read_row, with_indices=True, fn_kwargs=how, features=as_texts, remove_columns=others)
    return texts.cast(datasets.Features(kinds))


def _read_row(
    row: dict[str, Any], place: int, features: dict[str, Any], kinds: dict[str, Any], form: MessageForm, cut: TextCut
) -> dict[str, str | None]:
    """A row with its conversations, tools and variables of the template brought into form, as the texts of JSON."""
    found: dict[str, Any] = {}
    system = row["system"] if "system" in features else None
    for name in kinds:
        value = without_filled(row[name], features[name])
        try:
            if name == "tools":
                value = read_tools(value)
            elif name == "chat_template_kwargs":
                value = value or {}
            elif isinstance(value, list) or (name == "messages" and isinstance(value, str)):
                said = [{"role": "system", "content": system}] if name == "messages" and system else []
                value = [*(read_messages(said, form) if said else ()), *read_messages(value, form)]
                value = [cut.cut_message(message) for message in value]
            kind = kinds[name]
            found[name] = kind.encode_example(value) if isinstance(kind, JsonText) else value
        except ValueError as error:
            raise ValueError(f"Row {place} {error}.") from error
        except TypeError as error:  # dates, bytes
            raise ValueError(f"Row {place} has {name} that is neither text nor a conversation ({error}).") from error
    return found


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Let datasets work in silence."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
