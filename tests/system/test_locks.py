from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from lora_da.system.locks import LOCK, lock_folder


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with lock_folder(folder):
        (folder / "mine").touch()
        with pytest.raises(BlockingIOError, match=rf"new is in use by process {os.getpid()} on .*remove .*{LOCK}"):
            lock_folder(folder).__enter__()
        with lock_folder(folder, wanted=False):  # as the other processes of a job
            pass
    assert [path.name for path in folder.iterdir()] == ["mine"]
    with lock_folder(folder):
        pass


def test_an_owner_on_another_machine_is_believed_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "then"}))
    with pytest.raises(BlockingIOError, match="process 7 on elsewhere since then"):
        lock_folder(tmp_path).__enter__()
    os.utime(lock, (time.time() - 1000,) * 2)
    with lock_folder(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert tmp_path.exists() is False  # it held nothing else


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": 1}'])
def test_a_damaged_lock_that_nobody_holds_is_taken(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    os.utime(tmp_path / LOCK, (0, 0))
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("call", [1, 2])  # where the lock is made, and where it is opened to be held
def test_an_owner_that_removes_its_folder_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    folder, calls, opened = tmp_path / "work", 0, os.open

    def remove_then_open(path: Path, flags: int, mode: int = 0o777) -> int:
        nonlocal calls
        calls += 1
        if calls == call:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", remove_then_open)
    with lock_folder(folder):
        assert (folder / LOCK).is_file()
    assert not folder.exists()
    assert calls > 2
