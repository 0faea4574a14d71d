"""What is refused before anything is imported; that nothing is, and what it says, is in ``test_mistakes``."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from pathlib import Path

import pytest

from lora_da.cli.early_checks import check_inspect, check_installed, check_statistics


@pytest.mark.parametrize(
    ("module", "refused"),
    [("trl", {"init", "sft", "demo"}), ("accelerate", {"init", "plan", "sft", "demo"}), ("matplotlib", {"demo"})],
)
def test_a_command_needs_what_it_uses(module: str, refused: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else find(name))
    for command in ("init", "plan", "sft", "demo"):
        message = f"lora-da {command} needs {module}, which is not installed"
        with pytest.raises(ModuleNotFoundError, match=message) if command in refused else nullcontext():
            check_installed(command)


def test_what_is_inspected_has_to_be_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no lora_da\.json"):
        check_inspect(tmp_path, "default")
    (tmp_path / "lora_da.json").touch()
    check_inspect(tmp_path, "default")
    with pytest.raises(ValueError, match="no preset 'best'"):
        check_inspect(tmp_path, "best")
    with pytest.raises(FileNotFoundError, match=r"no statistics file .*sums"):
        check_inspect(tmp_path / "sums", "default")


def test_each_file_of_statistics_has_to_be_there(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    check_statistics(there, there)
    with pytest.raises(FileNotFoundError, match=r"no statistics file .*missing"):
        check_statistics(there, missing)
