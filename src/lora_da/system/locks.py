"""Locks: one process at a time works in a folder; what a process held that is no more is free."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lora-da.lock"
"""The file in a folder that says who works in it."""

_BEAT = 20.0  # seconds between two signs of life
_STALE = 300.0  # without one: only where the file system does not share locks between machines


@contextmanager
def lock_folder(folder: Path, *, wanted: bool = True) -> Iterator[None]:
    """Let no other process work in a folder meanwhile; the folder is made if it is missing.

    The system frees the lock of a process that ends in whatever way. Where machines share a folder and not its locks,
    the owner on another machine is known by its name and by the time since its last sign of life.

    Args:
        folder: The folder.
        wanted: If not, nothing is done: in a job of several processes, one holds the lock.

    Raises:
        BlockingIOError: Another process does; the message names it.
    """
    if not wanted:
        yield
        return
    path, me = folder / LOCK, {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))  # as it is, if it is there
        except FileNotFoundError:  # its last owner has removed the folder just now
            continue
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            continue
        with hold(path) as held:
            if held is None:  # its last owner has removed it just now
                continue
            owner = _owner(path)
            away = owner.get("host", me["host"]) != me["host"] and time.time() - path.stat().st_mtime < _STALE
            if not held or away:
                raise BlockingIOError(
                    f"{folder} is in use by process {owner.get('pid')} on {owner.get('host')} since "
                    f"{owner.get('since')}: wait for it, or choose another folder. If there is no such process any "
                    f"more, remove {path}"
                )
            path.write_text(json.dumps(me), encoding="utf-8")
            stop = threading.Event()
            threading.Thread(target=_live, args=(path, stop), daemon=True).start()
            try:
                yield
            finally:
                stop.set()
                path.unlink(missing_ok=True)
                with suppress(OSError):  # it holds something
                    folder.rmdir()
            return


@contextmanager
def hold(path: Path) -> Iterator[bool | None]:
    """Lock a file or a folder itself, and yield whether that succeeded.

    Yields:
        False where another process holds it, None where it has gone meanwhile.
    """
    if fcntl is None:
        yield True
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        held: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        except OSError:  # a file system without locks
            pass
        yield None if held and not _is_at(descriptor, path) else held
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _owner(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _live(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with suppress(OSError):
            os.utime(path)
