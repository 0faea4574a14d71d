from __future__ import annotations

from pathlib import Path

import pytest

from folders import tiny_model_folder, tokenizer_in
from lora_da_bench.laboratory.data import classification, domains
from lora_da_bench.laboratory.data.classification import CLASSIFICATIONS, Classification, encode_texts

ROWS = [("fine", 1), ("a bore", 0), ("fine", 1), ("so long that it is cut", 0)]


def test_texts_are_padded_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_in(tiny_model_folder(tmp_path / "model"), "")
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "train.tsv").write_text("sentence\tlabel\n" + "".join(f"{t} \t{c}\n" for t, c in ROWS))
    found = encode_texts(CLASSIFICATIONS["sst2"], tmp_path, tokenizer, 8)
    assert found.classes is not None
    assert found.classes.tolist() == [1, 0, 0]
    assert found.attention_mask.sum(1).tolist() == [4, 6, 8]  # one token a byte
    texts = [
        tokenizer.decode(row[mask.bool()]) for row, mask in zip(found.input_ids, found.attention_mask, strict=True)
    ]
    assert texts == ["fine", "a bore", "so long "]
    assert set(found.input_ids[0, 4:].tolist()) == {tokenizer.eos_token_id}
    monkeypatch.setattr(classification, "_LARGEST", 2)
    assert len(encode_texts(CLASSIFICATIONS["sst2"], tmp_path, tokenizer, 8)) == 2
    monkeypatch.setenv("LORA_DA_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="sst2 has 2 "):
        domains.load_domain("sst2", tokenizer, length=8, selection=1, test=1, needed=1)


def test_classes_of_rows() -> None:
    three, four = ({"answer": "".join(f"<<{n}={n}>>" for n in range(count))} for count in (3, 4))
    assert [CLASSIFICATIONS["gsm8k-steps"].class_of(row) for row in (three, four)] == [0, 1]
    assert isinstance(CLASSIFICATIONS["sst2"], Classification)
    assert domains.count_classes(["sst2", "gsm8k-steps"]) == 2
    assert domains.count_classes(["gsm8k", "my.txt"]) is None
