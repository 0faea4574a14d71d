"""An adapter folder is complete and plain, or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftModel, get_peft_model

from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da.report.initialization import InitializationReport
from lora_da.workflows.adapter_folder import save_adapter
from models import tiny_llama


def _initialised() -> tuple[PeftModel, InitializationReport]:
    import torch

    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["v_proj", "q_proj"]))
    ids = torch.randint(1, 30, (4, 6), generator=torch.Generator().manual_seed(0))
    report = initialize_lora_da_weights(model, [{"input_ids": ids, "labels": ids}], LoraDAConfig(), progress=False)
    return model, report


def test_folder_names_its_base_and_its_origin(tmp_path: Path) -> None:
    model, report = _initialised()
    save_adapter(model, tmp_path / "a", base="some/base", revision="abc", report=report, provenance={"rows": 4})
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/base", "abc")
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert json.loads((tmp_path / "a" / "lora_da.json").read_text())["provenance"] == {"rows": 4}
    card = (tmp_path / "a" / "README.md").read_text()
    assert card.startswith('---\nbase_model: "some/base"\n')
    assert "4 examples" in card


def test_a_failure_while_saving_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, report = _initialised()
    options: dict[str, Any] = {"base": "b", "revision": None, "report": report, "provenance": {}}
    save_adapter(model, tmp_path / "a", **options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(FileExistsError):
        save_adapter(model, tmp_path / "a", **options)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(InitializationReport, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(model, tmp_path / "a", **options, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
