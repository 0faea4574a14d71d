"""JSON files give the very values that are in them."""

from __future__ import annotations

import json
import random
from typing import Any

import datasets
import pytest

from lora_da.loading.data.json_text import JsonText, read_json

CALLS: list[Any] = [
    {"role": "user", "content": "Paris?"},
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"at": 48.85, "unit": None}}}]},
    {"role": "assistant", "tool_calls": [{"function": {"name": "g", "arguments": {"x": "5", "y": [1, "2"]}}}]},
]


@pytest.mark.parametrize(
    "rows",
    [
        [{"completion": "007"}, {"completion": "8"}],  # not numbers
        [{"completion": "2020-01-01"}, {"completion": "2020-01-02 10:00:00"}],  # not dates
        [{"date": "2020-01-01", "modified_at": "1577836800"}],
        [{"answer": True}, {"answer": "5"}, {"answer": 5}],  # of several types
        [{"messages": CALLS}, {"messages": CALLS[:1], "tools": [{"a": 1}, {"b": None}]}],
        [{"choices": ["a", "b"], "empty": [], "nested": [[1], []]}],
    ],
)
@pytest.mark.parametrize("lines", [True, False])
def test_values_stay_what_they_are(rows: list[dict[str, Any]], lines: bool) -> None:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    columns = dict.fromkeys(name for row in rows for name in row)
    assert list(read_json(text)) == [{name: row.get(name) for name in columns} for row in rows]


def test_numbers_keep_their_last_digit() -> None:
    generator = random.Random(0)
    numbers = [round(generator.uniform(-200, 200), generator.randint(1, 6)) for _ in range(500)]
    rows = datasets.Dataset.from_dict({"a": [{"x": x} for x in numbers]}, features=datasets.Features({"a": JsonText()}))
    assert [row["a"]["x"] for row in rows.map(lambda row: row)] == numbers


def test_rows_under_a_key_and_plain_texts() -> None:
    wrapped = json.dumps({"version": 1, "data": [{"text": "a"}]})
    assert read_json(wrapped, "data").to_list() == [{"text": "a"}]
    assert read_json('["a", "b"]').to_list() == [{"text": "a"}, {"text": "b"}]
    for row in ('{"talk": [{"role": "user", "content": "a"}]}', '{"messages": [], "tools": [{"name": "f"}]}'):
        assert list(read_json(row)) == [json.loads(row)]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ('{"a": 1}\n{"a": 2\n', None, "line 2: "),
        ('{"data": [{"text": "a"}]}', None, "under a key: name it behind a colon, :data"),
        ('{"data": [{"text": "a"}]}', "rows", "no list under the key 'rows'; there is one under 'data'"),
        ('[{"a": 1}, 5]', None, "row 1 is no object"),
        ('[{"a": 1},\n 5', None, "Expecting ',' delimiter: line 2"),
    ],
)
def test_what_is_no_table(text: str, key: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text, key)
