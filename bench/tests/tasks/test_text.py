"""Blocks of plain text."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import AutoTokenizer

from folders import tiny_model_folder
from lora_da_bench.tasks.text import Text


def test_every_token_is_in_one_block(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder(tmp_path))
    texts = ["abcdefg", "", "abcdefgh", "abc"]
    examples = Text(max_length=4).encode(datasets.Dataset.from_dict({"text": texts}), tokenizer)
    ids = {text: [*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts}
    # 8, 1, 9 and 4 tokens: single ones predict nothing.
    expected = [ids["abcdefg"][:4], ids["abcdefg"][4:], ids["abcdefgh"][:4], ids["abcdefgh"][4:8], ids["abc"]]
    assert examples["input_ids"] == expected
    assert examples["labels"] == expected
    assert examples["attention_mask"] == [[1] * 4] * 5


def test_errors(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder(tmp_path))
    rows = datasets.Dataset.from_dict({"text": ["abc", None]})
    with pytest.raises(ValueError, match="Row 1 has no text"):
        Text().encode(rows, tokenizer)
    with pytest.raises(ValueError, match="no column 'content'"):
        Text(text="content").encode(rows, tokenizer)
    with pytest.raises(ValueError, match="There is no text in the column 'text'"):
        Text().encode(datasets.Dataset.from_dict({"text": ["", ""]}), tokenizer)
    with pytest.raises(ValueError, match="at least 2"):
        Text(max_length=1)
    with pytest.raises(ValueError, match="has no answers"):
        Text().answer(None, tokenizer, rows, 1)
