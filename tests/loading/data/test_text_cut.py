from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from folders import tokenizer_in
from lora_da.loading import RowFormat, load_rows, prepare_examples
from lora_da.loading.data import text_cut
from lora_da.loading.data.text_cut import TextCut

_LONG = "one two  three, " * 400


@pytest.mark.parametrize(
    "row",
    [
        {"text": _LONG},
        {"prompt": "short ", "completion": _LONG},
        {"messages": [{"role": "user", "content": "short"}, {"role": "assistant", "content": _LONG}]},
    ],
)
def test_examples_are_as_without_the_cut(
    row: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([row, row]))
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    found = []
    for short in (10**6, 100):
        monkeypatch.setattr(text_cut, "_SHORT", short)
        rows = load_rows(str(tmp_path / "a.json"))
        found.append(prepare_examples(rows, tokenizer_in(folder, template), RowFormat(max_length=20)).rows.to_list())
    assert found[0] == found[1]
    assert len(found[0][0]["input_ids"]) == 20


def test_what_has_few_tokens_stays_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cut, "_SHORT", 10)
    cut = TextCut(AutoTokenizer.from_pretrained(folder), 20)
    assert len(cut.cut_text("x" * 10_000)) == 64 * 20

    def few(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(text.split())}

    text = " " * 5_000 + "a few words"
    assert TextCut(few, 20).cut_text(text) == text
