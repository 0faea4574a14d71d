"""Names and folders from which no model can be loaded, told without loading one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_da.loading.model_check import check_model_path


@pytest.mark.parametrize("name", ["./model", "a/b/c", "/nowhere", "two words", "~/model"])
def test_paths_are_no_ids_of_the_hub(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*; check the path"):
        check_model_path(name)


def test_an_id_passes_unless_the_hub_can_not_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    check_model_path("some/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"'some/model': no such folder, .* HF_HUB_OFFLINE forbids"):
        check_model_path("some/model")
    (tmp_path / "models--some--model").mkdir()
    check_model_path("some/model")


@pytest.mark.parametrize(("content", "told"), [(json.dumps({"base_model_name_or_path": "a/b"}), ", a/b,"), ("", ",")])
def test_an_adapter_is_told_with_its_base(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=f"holds an adapter, .*; name the base model{told} or a folder into which"):
        check_model_path(str(tmp_path))
