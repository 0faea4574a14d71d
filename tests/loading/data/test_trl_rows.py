"""The same data in every form that people have them in give the same examples, or the row is named."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pytest

from folders import tokenizer_in
from lora_da.loading.data.examples import prepare_examples
from lora_da.loading.data.row_format import RowFormat
from lora_da.loading.data.rows import load_rows
from lora_da.loading.data.trl_rows import as_trl_rows

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{% if m.content %}"
    "{{ m.content + ';' }}{% endif %}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
    "{{ c.function.arguments | tojson }};{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
PAIRS = [(f"{n} + {n} =", f" {2 * n}") for n in range(6)]
CHAT: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in PAIRS
]


TAKES_PARTS = "{% for m in messages %}<{{ m.role }}>{{ m.content[0].text }}{% endfor %}"


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return tokenizer_in(folder, TEMPLATE)


@pytest.fixture
def examples(tokenizer: Any) -> Callable[..., list[dict[str, Any]]]:
    def read(source: Path | str, **form: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = prepare_examples(
            load_rows(str(source)), tokenizer, RowFormat(**form)
        ).rows.to_list()
        return found

    return read


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def calling(**more: Any) -> list[dict[str, Any]]:
    """Conversations with calls of two tools, whose arguments differ."""
    arguments: list[dict[str, Any]] = [{"city": "Paris", "at": -0.82}, {"expression": "5"}]
    return [
        {
            "messages": [
                {"role": "user", "content": "a"},
                {
                    "role": "assistant",
                    "tool_calls": [{"type": "function", "function": {"name": n, "arguments": found}}],
                },
                {"role": "tool", "name": n, "content": "7"},
                {"role": "assistant", "content": "b"},
            ],
            "tools": [
                {"type": "function", "function": {"name": n, "parameters": {k: {"type": "string"} for k in found}}}
            ],
        }
        | more
        for n, found in zip(("weather", "calculator"), arguments, strict=True)
    ]


def test_forms_of_conversations(tmp_path: Path, examples: Callable[..., Any]) -> None:
    plain = examples(lines(tmp_path / "plain.jsonl", CHAT))
    speakers = {"user": "human", "assistant": "gpt"}
    shared = [
        {"conversations": [{"from": speakers[m["role"]], "value": m["content"]} for m in row["messages"]]}
        for row in CHAT
    ]
    assert examples(lines(tmp_path / "shared.jsonl", shared)) == plain
    assert examples(tmp_path / "shared.jsonl", messages_column="conversations") == plain
    begun = [{"messages": [{"role": "system", "content": "s"}, *row["messages"]]} for row in CHAT]
    beside = [row | {"system": "s"} for row in shared]
    plain_begun = examples(lines(tmp_path / "begun.jsonl", begun))
    assert examples(lines(tmp_path / "beside.jsonl", beside)) == plain_begun != plain
    parts = [
        {"messages": [m | {"content": [{"type": "text", "text": m["content"]}], "name": None} for m in row["messages"]]}
        for row in CHAT
    ]
    assert examples(lines(tmp_path / "parts.json", parts)) == plain
    datasets.Dataset.from_list(parts).to_parquet(tmp_path / "parts.parquet")
    assert examples(tmp_path / "parts.parquet") == plain
    as_text = datasets.Dataset.from_list([{"messages": json.dumps(row["messages"])} for row in CHAT])
    as_text.to_csv(tmp_path / "as_text.csv")
    assert examples(tmp_path / "as_text.csv") == plain
    datasets.DatasetDict(train=datasets.Dataset.from_list(shared)).save_to_disk(tmp_path / "saved")
    assert examples(tmp_path / "saved") == plain


def test_tool_calls_are_the_same_in_every_format(tmp_path: Path, examples: Callable[..., Any], tokenizer: Any) -> None:
    rows = calling()
    plain = examples(lines(tmp_path / "plain.jsonl", rows))
    for row, example in zip(rows, plain, strict=True):
        written = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False)
        assert tokenizer.decode(example["input_ids"]) == written
        assert json.dumps(row["messages"][1]["tool_calls"][0]["function"]["arguments"]) in written
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    assert examples(tmp_path / "a.parquet") == plain
    texts = json.loads(json.dumps(rows))
    for row in texts:
        row["tools"] = json.dumps(row["tools"])
        function = row["messages"][1]["tool_calls"][0]["function"]
        function["arguments"] = json.dumps(function["arguments"])
        row["messages"][1]["content"] = None
    assert examples(lines(tmp_path / "texts.jsonl", texts)) == plain
    assert examples(lines(tmp_path / "none.jsonl", calling(tools=None))) != plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": None}, "Row 4 has no completion"),
        ({"completion": ["a", "b"]}, "Row 4 has several texts where one is expected"),
        ({"prompt": 3}, "Row 4 has prompt of type int"),
    ],
)
def test_a_bad_row_is_named_by_its_place_whether_it_is_drawn_or_not(
    change: dict[str, Any], message: str, tmp_path: Path, tokenizer: Any
) -> None:
    pairs = [{"prompt": a, "completion": b} for a, b in PAIRS]
    pairs[4] |= change
    rows = load_rows(str(lines(tmp_path / "a.jsonl", pairs)))
    for places in ([0, 4], [5], None):
        with pytest.raises(ValueError, match=message):
            prepare_examples(rows, tokenizer, RowFormat(), places)


def test_alpaca(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"instruction": a, "input": "x" * (n % 2), "output": b, "answer": "c"} for n, (a, b) in enumerate(PAIRS)]
    found = as_trl_rows(load_rows(str(lines(tmp_path / "a.jsonl", rows))), RowFormat(), tokenizer)
    assert found.column_names == ["prompt", "completion"]
    assert found[0]["prompt"].startswith("Below is an instruction that describes a task. Write")
    assert found[0]["prompt"].endswith("### Instruction:\n0 + 0 =\n\n### Response:\n")
    assert found[1]["prompt"].endswith("### Instruction:\n1 + 1 =\n\n### Input:\nx\n\n### Response:\n")
    assert found["completion"][:] == [b for _, b in PAIRS]
    with pytest.warns(UserWarning, match="columns that are not read: input"):
        prepare_examples(
            load_rows(str(tmp_path / "a.jsonl")), tokenizer, RowFormat("instruction", "output", max_length=64), [0]
        )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": None, "output": "b"}], "Row 0 has no text as its instruction"),
        ([{"instruction": ["a"], "output": "b"}], "Row 0 has no text as its instruction"),
        ([{"instruction": "a", "input": 5, "output": "b"}], "Row 0 has no text as its input"),
        ([{"prompt": "a", "completion": datetime(2020, 1, 1)}], "Row 0 has completion that is neither text nor"),
        ([{"messages": "[{'role': 'user'}]"}], "Row 0 has messages as text that is no JSON"),
        ([{"text": b"a"}], "Row 0 has text that is neither text nor"),
    ],
)
def test_values_that_are_no_text(rows: list[dict[str, Any]], message: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=message):
        as_trl_rows(datasets.Dataset.from_list(rows), RowFormat(), tokenizer)


def test_conversations_for_a_template_that_takes_parts(tokenizer: Any) -> None:
    plain = as_trl_rows(datasets.Dataset.from_list(CHAT), RowFormat(), tokenizer)
    tokenizer.chat_template = TAKES_PARTS
    found = as_trl_rows(datasets.Dataset.from_list(CHAT), RowFormat(), tokenizer)
    assert [row["messages"][0]["content"] for row in found] == [
        [{"type": "text", "text": row["messages"][0]["content"]}] for row in plain
    ]


def test_answers_that_are_marked_as_bad_are_not_learnt(tokenizer: Any) -> None:
    rows = datasets.Dataset.from_list([{"prompt": "a", "completion": "b", "label": False}])
    with pytest.raises(ValueError, match="The column label tells good answers from bad ones"):
        as_trl_rows(rows, RowFormat(), tokenizer)


def test_only_what_trl_reads_is_kept(tokenizer: Any) -> None:
    rows = datasets.Dataset.from_list([{"prompt": "an old one", "q": "1 + 1 =", "a": " 2", "id": 7}])
    found = as_trl_rows(rows, RowFormat(prompt_column="q", completion_column="a"), tokenizer)
    assert found.to_list() == [{"prompt": "1 + 1 =", "completion": " 2"}]


@pytest.mark.parametrize(
    ("file", "form", "prompt"),
    [
        ("gsm8k/train.jsonl", RowFormat("question", "answer"), "question"),
        ("sst2/train.tsv", RowFormat("sentence", "label"), "sentence"),
        ("commonsense/boolq/train.json", RowFormat("instruction", "output"), "instruction"),
    ],
)
def test_real_files_compressed_and_not(file: str, form: RowFormat, prompt: str, tmp_path: Path, tokenizer: Any) -> None:
    root = os.environ.get("LORA_DA_DATA")
    if root is None or not (path := Path(root) / file).is_file():
        pytest.skip(f"needs LORA_DA_DATA with {file}")
    rows = load_rows(str(path))
    found = as_trl_rows(rows, form, tokenizer)
    assert (found["prompt"][:], len(found)) == (rows[prompt][:], len(rows))
    packed = tmp_path / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load_rows(str(packed)).to_list() == rows.to_list()
