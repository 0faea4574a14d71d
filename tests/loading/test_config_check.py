from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from lora_da.loading.config_check import check_claims, check_folder


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 10**6},
        {"text_config": {"n_layer": 10**6}},
        {"vision": [{"depths": [2], "num_experts": 1e6}]},
        {"hidden_size": 2**40},
        {"vocab_size": 2**40},
        {"d_model": 2**40},
    ],
)
def test_absurd_claims_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json claims .* it is damaged"):
        check_folder(tmp_path)


def test_every_family_is_within_the_bounds() -> None:
    for kind in ("llama", "qwen2_moe", "deepseek_v3", "mixtral", "gpt2", "t5", "swin", "mamba2", "bloom", "gemma3"):
        check_claims(json.loads(CONFIG_MAPPING[kind]().to_json_string()), Path(kind))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"time_step_limit": [0, Infinity]}')
    check_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged: line 1"):
        check_folder(tmp_path)
