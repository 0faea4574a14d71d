"""Choosing columns."""

from __future__ import annotations

from typing import Any

import pytest

from lora_da.loading.data.row_format import RowFormat, resolve_columns, warn_of_unused_columns

PAIRS = {"prompt": "prompt", "completion": "completion"}


def test_columns_are_recognised_in_order() -> None:
    everything = ["text", "completion", "prompt", "messages"]
    assert resolve_columns(everything, RowFormat()) == {"messages": "messages"}
    assert resolve_columns(everything[:3], RowFormat()) == PAIRS
    assert resolve_columns(everything[:2], RowFormat()) == {"text": "text"}
    assert resolve_columns(["conversations", "id"], RowFormat()) == {"messages": "conversations"}
    assert list(resolve_columns(["output", "input", "instruction"], RowFormat())) == ["instruction", "output", "input"]
    named = RowFormat(prompt_column="q", completion_column="a")
    assert resolve_columns(["q", "a"], named) == {"prompt": "q", "completion": "a"}
    chosen = RowFormat(completion_column="chosen")
    assert resolve_columns(["prompt", "chosen", "rejected"], chosen) == {"prompt": "prompt", "completion": "chosen"}


@pytest.mark.parametrize(
    ("available", "named", "message"),
    [
        (["q", "a"], {}, "columns are: q, a.*--prompt-column and --completion-column, with --text-column, or with"),
        (["q", "a"], {"text_column": "body"}, "no column 'body' for the text; the columns are: q, a"),
        (["q", "a"], {"prompt_column": "q"}, "name it with --completion-column"),
        (["q", "a"], {"completion_column": "a"}, "name it with --prompt-column"),
        (["q", "a"], {"prompt_column": "q", "text_column": "a"}, "prompt, text are named at once"),
    ],
)
def test_columns_that_do_not_fit(available: list[str], named: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_columns(available, RowFormat(**named))


def test_columns_that_are_not_read() -> None:
    named = RowFormat(prompt_column="q", completion_column="a")
    with pytest.warns(UserWarning, match="not read: prompt, id$"):
        warn_of_unused_columns(["prompt", "q", "a", "id"], named)
    warn_of_unused_columns(["messages", "tools"], RowFormat())
    warn_of_unused_columns(["instruction", "input", "output"], RowFormat())
    with pytest.raises(ValueError, match="at least 2"):
        RowFormat(max_length=1)


@pytest.mark.parametrize(
    ("available", "meaning"),
    [
        (["prompt", "chosen", "rejected"], r"a loss of pairs such as DPO's.*losses\.DPO\(\).*as completions"),
        (["messages", "images"], "images with texts: give initialize_from_trainer"),
        (["prompt", "answer"], "prompts without completions, as GRPO takes them"),
        (["input_ids", "labels"], "tokenised already: give initialize_lora_da_weights"),
    ],
)
def test_other_shapes_are_told_in_their_words(available: list[str], meaning: str) -> None:
    with pytest.raises(ValueError, match=f"The columns {', '.join(available)} are .*{meaning}"):
        resolve_columns(available, RowFormat())
