"""The trained adapter appears as a whole, in the order that says so, and an earlier one stays until then."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_da.workflows.sft.trained_adapter import save_trained, sweep_trained

PARTS = ("adapter_config.json", "adapter_model.safetensors", "README.md", "templates")


class _Trainer:
    args = SimpleNamespace(should_save=True)

    def __init__(self, mark: str, error: BaseException | None = None) -> None:
        self.mark, self.error = mark, error

    def save_model(self, folder: str, _internal_call: bool = False) -> None:
        assert _internal_call  # or it would be pushed to the hub without the run's other files
        for name in PARTS[:2]:
            (Path(folder) / name).write_text(self.mark)
        if self.error is not None:
            raise self.error
        (Path(folder) / "templates").mkdir()
        (Path(folder) / "templates" / self.mark).touch()
        with (Path(folder) / "README.md").open("a") as card:
            card.write(self.mark)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run's folder, with the card that TRL writes before a checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "README.md").write_text("TRL's, ")
    return folder


def _held(output: Path) -> dict[str, Any]:
    return {path.name: path.read_text() if path.is_file() else sorted(p.name for p in path.iterdir()) for path in
            output.iterdir()}  # fmt: skip


def test_all_is_there_and_nothing_else_is_left(output: Path) -> None:
    for mark in ("old", "new"):
        save_trained(_Trainer(mark), output)
    assert _held(output) == {
        "adapter_config.json": "new",
        "adapter_model.safetensors": "new",
        "README.md": "TRL's, oldnew",
        "templates": ["new"],
        "checkpoint-2": [],
    }


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_an_earlier_adapter_stays_where_saving_fails(output: Path, error: BaseException) -> None:
    save_trained(_Trainer("old"), output)
    before = _held(output)
    with pytest.raises(type(error)):
        save_trained(_Trainer("new", error), output)
    assert _held(output) == before


def test_the_configuration_is_last(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def seen(self: Path, target: Any) -> Any:
        assert not (output / "adapter_config.json").exists()
        if self.name == "adapter_config.json":
            assert all((output / name).exists() for name in PARTS[1:])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    save_trained(_Trainer("new"), output)
    assert (output / "adapter_config.json").exists()


def test_what_a_kill_left_is_swept(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _held(output)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)  # as where the process is no more
        patched.setattr("lora_da.workflows.sft.trained_adapter.move_into", lambda *_, **__: None)
        save_trained(_Trainer("half"), output)
    assert len(_held(output)) == len(before) + 1
    sweep_trained(output)
    assert _held(output) == before


def test_a_process_that_does_not_save_writes_nothing(output: Path) -> None:
    trainer: Any = SimpleNamespace(args=SimpleNamespace(should_save=False), save_model=lambda *_, **__: None)
    before = _held(output)
    save_trained(trainer, output)
    assert _held(output) == before
