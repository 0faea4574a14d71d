from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from folders import sums_file, tiny_model_folder
from lora_da.loading import ModelSource, RowFormat, load_tokenizer
from lora_da.workflows.calibration_sample import read_sample, sample_indices
from lora_da.workflows.settings import Calibration


def test_samples_are_drawn_by_the_seed_from_all_rows() -> None:
    first, again, other = (sample_indices(1000, 50, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 50
    assert max(first) > 700
    assert sample_indices(1000, 2000, 0) == list(range(1000))
    with pytest.raises(ValueError, match="examples must be a number of at least 1"):
        Calibration(examples=0)


def test_the_sample_is_of_the_rows_drawn_and_a_bad_one_is_named(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ModelSource(str(tiny_model_folder(tmp_path / "model"))))
    data = sums_file(tmp_path / "sums.jsonl", 30)
    sample = read_sample(str(data), "train", RowFormat(), tokenizer, Calibration(examples=5), seed=3)
    lines = [f"{a} + {a + 3} = {2 * a + 3}</s>" for a in sample_indices(30, 5, 3)]
    assert [tokenizer.decode(ids) for ids in sample.examples.rows["input_ids"]] == lines
    assert (sample.row_count, sample.about["rows"], sample.about["calibration"]["seed"]) == (30, 30, 3)
    content = data.read_text().splitlines()
    place = sample_indices(30, 5, 3)[2]
    data.write_text("\n".join([*content[:place], '{"prompt": "1 + 1 ="}', *content[place + 1 :]]))
    with pytest.raises(ValueError, match=f"Row {place} has no completion"):
        read_sample(str(data), "train", RowFormat(), tokenizer, Calibration(examples=5), seed=3)


def test_fewer_rows_than_asked_for_are_told(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ModelSource(str(tiny_model_folder(tmp_path / "model"))))
    data = str(sums_file(tmp_path / "sums.jsonl", 30))
    with pytest.warns(UserWarning, match="the data have 30 rows, fewer than the 31 calibration examples asked for"):
        read_sample(data, "train", RowFormat(), tokenizer, Calibration(examples=31), seed=3)
    with warnings.catch_warnings(record=True) as told:
        read_sample(data, "train", RowFormat(), tokenizer, Calibration(examples=30), seed=3)
    assert not [warning for warning in told if "fewer" in str(warning.message)]
