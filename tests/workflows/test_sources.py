from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lora_da.workflows.sources import AdapterShape, ModelSource, calibration_sample


def test_samples_are_drawn_by_the_seed_from_all_rows() -> None:
    rows = datasets.Dataset.from_dict({"n": list(range(1000))})
    first, again, other = (calibration_sample(rows, 50, seed)["n"] for seed in (0, 0, 1))
    assert list(first) == list(again) != list(other)
    assert len(set(first)) == 50
    assert max(first) > 700
    assert list(calibration_sample(rows, 2000, 0)["n"]) == list(range(1000))
    with pytest.raises(ValueError, match="at least 1"):
        calibration_sample(rows, 0, 0)


def test_a_gguf_file_is_converted_beside_the_output(tmp_path: Path) -> None:
    assert ModelSource("a/Small.Q4.gguf").converted_folder(tmp_path / "adapter") == tmp_path / "Small.Q4-safetensors"
    assert ModelSource("some/model").converted_folder(tmp_path / "adapter") is None


def test_shapes() -> None:
    config = AdapterShape(rank=4, alpha=8, rslora=False, target_modules="q_proj, v_proj").lora_config()
    assert (config.r, config.lora_alpha, config.use_rslora) == (4, 8, False)
    assert config.target_modules == {"q_proj", "v_proj"}
    assert AdapterShape().lora_config().target_modules == "all-linear"
    with pytest.raises(ValueError, match="rank"):
        AdapterShape(rank=0).lora_config()
    with pytest.raises(ValueError, match="target modules"):
        AdapterShape(target_modules=" ,").lora_config()
