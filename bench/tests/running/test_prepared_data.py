"""Data are tokenised once for all runs of a comparison, and rows that can't be measured are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from answering import tiny_loaded
from lora_da_bench.experiment.description import describe_experiment
from lora_da_bench.running.prepared_data import prepare_data
from lora_da_bench.tasks.generation import Generation
from small import described


def test_data_are_prepared_once_for_each_description(tmp_path: Path) -> None:
    loaded = tiny_loaded(tmp_path / "other")
    experiment = describe_experiment(described(tmp_path))
    data = prepare_data(experiment, Generation(), loaded.tokenizer)
    assert prepare_data(experiment, Generation(), loaded.tokenizer) is data
    fewer = describe_experiment(described(tmp_path, task={"train_rows": 5}))
    assert len(prepare_data(fewer, Generation(), loaded.tokenizer).train) == 5
    facts = data.describe(max_length=12)
    assert facts["rows"] == {"train": len(data.train), "validation": 8, "test": 8}
    assert facts["rows_cut"]["test"] == sum(length >= 12 for length in data.test.lengths) > 0
    assert data.questions is data.unrelated is None


def test_completions_alone_are_learnt(tmp_path: Path) -> None:
    loaded = tiny_loaded(tmp_path / "other")
    data = prepare_data(describe_experiment(described(tmp_path)), Generation(), loaded.tokenizer)
    for row, example in zip(data.splits.test, data.test.rows, strict=True):
        learnt = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label >= 0]
        assert loaded.tokenizer.decode(learnt) == f"{row['completion']}</s>"


def test_unrelated_text_is_cut_into_blocks(tmp_path: Path) -> None:
    loaded = tiny_loaded(tmp_path / "other")
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "abcdefghi"}) + "\n" + json.dumps({"text": "xyz"}) + "\n")
    forgetting = {"data": str(tmp_path / "t.jsonl"), "length": 3}
    experiment = describe_experiment(described(tmp_path, forgetting=forgetting))
    blocks = prepare_data(experiment, Generation(), loaded.tokenizer).unrelated
    assert blocks is not None
    # A token a byte, and one that ends each text; the block of that one alone predicts nothing.
    assert [loaded.tokenizer.decode(ids) for ids in blocks.rows["input_ids"]] == ["abc", "def", "ghi", "xyz"]
    assert blocks.rows["labels"][:] == blocks.rows["input_ids"][:]
    fewer = describe_experiment(described(tmp_path, forgetting=forgetting | {"blocks": 2}))
    assert len(prepare_data(fewer, Generation(), loaded.tokenizer).unrelated or ()) == 2


@pytest.mark.filterwarnings("ignore:.*have no token to learn from")
def test_held_out_rows_without_a_label_are_refused(tmp_path: Path) -> None:
    loaded = tiny_loaded(tmp_path / "other")
    experiment = describe_experiment(described(tmp_path))
    with pytest.raises(ValueError, match="rows to measure on have no label within max_length"):
        prepare_data(experiment, Generation(max_length=8), loaded.tokenizer)
