from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoTokenizer, set_seed

from command import sft_options
from folders import sums_file
from lora_da.workflows.sft.arguments import SftArguments, parse_arguments
from lora_da.workflows.sft.splits import load_splits


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(sums_file(tmp_path / "sums.jsonl"))


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def arguments(data: str, *options: str | float) -> SftArguments:
    return parse_arguments(sft_options("no model", data, Path("nowhere"), *options))


def test_held_out_rows(data: str, tmp_path: Path, tokenizer: Any) -> None:
    evaluating = ["--eval_strategy", "steps"]
    with pytest.raises(ValueError, match=r"no split 'test', only train: .* --test_split_size 0\.1"):
        load_splits(arguments(data, *evaluating), tokenizer)
    train, held_out = load_splits(arguments(data, *evaluating, "--test_split_size", 0.2), tokenizer)
    assert (len(train), len(held_out)) == (32, 8)
    assert not set(train["prompt"]) & set(held_out["prompt"])
    assert load_splits(arguments(data), tokenizer)[1] is None
    datasets.DatasetDict(train=train, test=held_out).save_to_disk(tmp_path / "saved")
    saved = load_splits(arguments(str(tmp_path / "saved"), *evaluating), tokenizer)
    assert [part["prompt"][:] for part in saved] == [part["prompt"][:] for part in (train, held_out)]

    config = tmp_path / "mixture.yaml"
    config.write_text(f"datasets:\n- path: json\n  data_files: {data}\n  columns: [prompt, completion]\n")
    held_out_rows = []
    for _ in range(2):  # TRL draws the rows with numpy's generator, which fine_tune seeds
        set_seed(0)
        mixed = arguments("", "--config", str(config), *evaluating, "--test_split_size", 0.2)
        held_out_rows.append(load_splits(mixed, tokenizer)[1]["prompt"][:])
    assert held_out_rows[0] == held_out_rows[1]


def test_columns_that_are_not_known(tmp_path: Path, tokenizer: Any) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1", "answer": "2"}\n')
    with pytest.raises(ValueError, match="the columns question, answer; known are messages or"):
        load_splits(arguments(str(file)), tokenizer)
    with pytest.warns(UserWarning, match="not read: question"):
        train, _ = load_splits(arguments(str(file), "--dataset_text_field", "answer"), tokenizer)
    assert train["answer"][:] == ["2"]


def test_every_split_is_checked_and_the_rest_is_left_to_trl(data: str, tmp_path: Path, tokenizer: Any) -> None:
    good, bad = {"prompt": "a ", "completion": "b"}, {"prompt": "a ", "completion": ""}
    datasets.DatasetDict(
        train=datasets.Dataset.from_list([good] * 3), test=datasets.Dataset.from_list([good, bad])
    ).save_to_disk(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    load_splits(arguments(saved), tokenizer)
    with pytest.raises(ValueError, match="the split 'test' of the data: Row 1 has an empty completion"):
        load_splits(arguments(saved, "--eval_strategy", "steps"), tokenizer)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [good] * 7 + [bad] + [good] * 2))
    with pytest.raises(ValueError, match="Row 7 has an empty completion"):  # its place in the file
        load_splits(arguments(str(file), "--test_split_size", 0.5), tokenizer)
    tokens = datasets.Dataset.from_list([{"input_ids": [1, 2], "labels": [1, 2], "more": 1}])
    tokens.save_to_disk(tmp_path / "tokens")
    assert load_splits(arguments(str(tmp_path / "tokens")), tokenizer)[0].to_list() == tokens.to_list()
