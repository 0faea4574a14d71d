from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import set_seed

from command import sft_options
from folders import sums_file
from lora_da.workflows.sft.arguments import SftArguments, parse_arguments
from lora_da.workflows.sft.splits import load_splits


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(sums_file(tmp_path / "sums.jsonl"))


def arguments(data: str, *options: str | float) -> SftArguments:
    return parse_arguments(sft_options("no model", data, Path("nowhere"), *options))


def test_held_out_rows(data: str, tmp_path: Path) -> None:
    evaluating = ["--eval_strategy", "steps"]
    with pytest.raises(ValueError, match=r"no split 'test', only train: .* --test_split_size 0\.1"):
        load_splits(arguments(data, *evaluating))
    train, held_out = load_splits(arguments(data, *evaluating, "--test_split_size", 0.2))
    assert (len(train), len(held_out)) == (32, 8)
    assert not set(train["prompt"]) & set(held_out["prompt"])
    assert load_splits(arguments(data))[1] is None
    datasets.DatasetDict(train=train, test=held_out).save_to_disk(tmp_path / "saved")
    saved = load_splits(arguments(str(tmp_path / "saved"), *evaluating))
    assert [part["prompt"][:] for part in saved] == [part["prompt"][:] for part in (train, held_out)]

    config = tmp_path / "mixture.yaml"
    config.write_text(f"datasets:\n- path: json\n  data_files: {data}\n  columns: [prompt, completion]\n")
    held_out_rows = []
    for _ in range(2):  # TRL draws the rows with numpy's generator, which fine_tune seeds
        set_seed(0)
        mixed = arguments("", "--config", str(config), *evaluating, "--test_split_size", 0.2)
        held_out_rows.append(load_splits(mixed)[1]["prompt"][:])
    assert held_out_rows[0] == held_out_rows[1]


def test_columns_that_trl_does_not_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1", "answer": "2"}\n')
    with pytest.raises(ValueError, match="the columns question, answer; TRL reads messages, prompt and completion, or"):
        load_splits(arguments(str(file)))
    train, _ = load_splits(arguments(str(file), "--dataset_text_field", "answer"))
    assert train["answer"][:] == ["2"]
