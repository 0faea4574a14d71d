"""Choosing columns, and giving them TRL's names."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from lora_da.loading.data.row_format import RowFormat, as_trl_rows, resolve_columns, unused_columns

PAIRS = {"prompt": "prompt", "completion": "completion"}


def test_columns_are_recognised_in_order() -> None:
    everything = ["text", "completion", "prompt", "messages"]
    assert resolve_columns(everything, RowFormat()) == {"messages": "messages"}
    assert resolve_columns(everything[:3], RowFormat()) == PAIRS
    assert resolve_columns(everything[:2], RowFormat()) == {"text": "text"}
    named = RowFormat(prompt_column="q", completion_column="a")
    assert resolve_columns(["q", "a"], named) == {"prompt": "q", "completion": "a"}


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


def test_columns_get_the_names_of_trl_and_others_are_left_out() -> None:
    row: dict[str, Any] = {"prompt": "an old one", "q": "1 + 1 =", "a": " 2", "id": 7}
    named = RowFormat(prompt_column="q", completion_column="a")
    assert as_trl_rows(datasets.Dataset.from_list([row]), named).to_list() == [
        {"prompt": "1 + 1 =", "completion": " 2"}
    ]
    assert unused_columns(list(row), named) == ["prompt", "id"]
    assert unused_columns(["messages", "tools"], RowFormat()) == []
    with pytest.raises(ValueError, match="at least 2"):
        RowFormat(max_length=1)
