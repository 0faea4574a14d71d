from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lora_da.system import files
from lora_da.system.files import atomic_path, write_text


def _full_disk(*_args: Any, **_kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_file_and_its_missing_parents_are_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.txt"
    write_text(str(target), "größer\n")
    assert target.read_bytes() == "größer\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_path(target) as draft:
        draft.write_text("half")
        assert not target.exists()
        assert tmp_path in draft.parents  # the same file system, so that renaming is atomic
    assert target.read_text() == "half"


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(FileExistsError, match=r"file exists already"), atomic_path(target):
        pytest.fail("the body must not run")
    assert target.read_text() == "old"
    write_text(target, "new", overwrite=True)
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_path(target, overwrite=True) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_while_renaming_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    monkeypatch.setattr(os, "replace", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new", overwrite=True)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def _make_folder(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "file").write_text(content)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    _make_folder(target, "old")
    (target / "leftover").write_text("")
    with atomic_path(target, overwrite=True) as draft:
        _make_folder(draft, "new")
    assert [path.name for path in target.iterdir()] == ["file"]
    assert (target / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_while_replacing_a_folder_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    _make_folder(target, "old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)  # as on systems that can't
    monkeypatch.setattr(os, "replace", _full_disk)
    with pytest.raises(OSError, match="No space left"), atomic_path(target, overwrite=True) as draft:
        _make_folder(draft, "new")
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
