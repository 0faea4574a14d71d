"""Files and folders that appear complete or not at all, and stay when the power fails."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lora_da.system.locks import hold
from lora_da.system.stopping import undisturbed

_WORKSHOP = ".unfinished"
_LONGEST = 255  # bytes of a name


def refuse_existing(*targets: Path | None, overwrite: bool) -> None:
    """Refuse to write where something is already; called before any work, so that none is in vain.

    None stands for a path that is not wanted. What a killed run left beside a target is put in order first.

    Raises:
        FileExistsError: One of them exists and may not be replaced.
        OSError: One of them can't be written: it lies below a file, its name is too long, or its folder is read-only.
    """
    for target in filter(None, targets):
        _check_place(target)
        sweep(target)
        if os.path.lexists(target) and not overwrite:
            raise FileExistsError(
                f"{target} exists already; choose another path, or ask for it to be replaced (--overwrite)"
            )


def refuse_overlap(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | str | None]) -> None:
    """Refuse outputs that are an input, contain one, or lie within one; links are followed.

    Args:
        outputs: By what they are called in messages.
        inputs: The same; names that are no path on this machine are passed over.

    Raises:
        ValueError: One does.
    """
    for name, output in outputs.items():
        for what, given in inputs.items():
            if output is None or given is None or not os.path.lexists(given):
                continue
            mine, theirs = Path(os.path.realpath(output)), Path(os.path.realpath(given))
            if mine == theirs or (mine.exists() and theirs.exists() and mine.samefile(theirs)):
                relation = "is"
            elif mine in theirs.parents:
                relation = "contains"
            elif theirs in mine.parents:
                relation = "lies within"
            else:
                continue
            raise ValueError(f"{name} {output} {relation} {what} {given}, which would be lost: choose another path")


@contextmanager
def atomic_path(target: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file or a folder under a temporary name and rename it when all went well and is on the disk.

    There is no moment without a target where one is replaced: a folder changes places with the new one, on systems
    that can't do so it is moved aside for a moment, and put back by the next call if that was the last moment.

    Args:
        target: The final path. Missing parent folders are made.
        overwrite: Replace what is there already.

    Yields:
        A path beside ``target`` at which the caller writes a file or makes a folder.

    Raises:
        FileExistsError: ``target`` exists, or has come to exist meanwhile, and ``overwrite`` is false.
    """
    target = Path(target).absolute()
    refuse_existing(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own beside the target: same file system, so that the rename is atomic.
    with _workshop(target) as workshop:
        draft, old = workshop / "new" / target.name, workshop / "old" / target.name
        draft.parent.mkdir()
        yield draft
        _flush(draft)
        refuse_existing(target, overwrite=overwrite)
        if not (draft.is_dir() and target.is_dir()):
            draft.replace(target)
        elif not _exchange(draft, target):
            old.parent.mkdir()
            target.rename(old)
            try:
                draft.replace(target)
            except BaseException:
                old.rename(target)
                raise
        _flush(target.parent, alone=True)


def sweep(target: Path) -> None:
    """Remove what runs that were killed left beside a target, and put back a folder that one had moved aside."""
    name = re.compile(re.escape(_prefix(target)) + r"[a-z0-9_]{8}" + re.escape(_WORKSHOP))
    for workshop in [*target.parent.iterdir()] if target.parent.is_dir() else ():
        if name.fullmatch(workshop.name):
            with suppress(OSError), hold(workshop) as held:
                if held:
                    _clear(workshop)


def move_into(draft: Path, folder: Path, *, last: str) -> None:
    """Move what is in a draft into a folder of the same file system, one after another, once it is on the disk.

    Args:
        draft: A folder.
        folder: Where to; files and folders of the same names are replaced.
        last: Which of them follows all others, and so says that they are there.
    """
    _flush(draft)
    with undisturbed():
        for path in sorted(draft.iterdir(), key=lambda path: (path.name == last, path.name)):
            target = folder / path.name
            if path.is_dir() and target.is_dir():
                shutil.rmtree(target)
            path.replace(target)
        _flush(folder, alone=True)


def write_text(target: Path | str, text: str, *, overwrite: bool = False) -> None:
    """Write a UTF-8 text file, which appears whole or not at all.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is false.
    """
    with atomic_path(target, overwrite=overwrite) as draft:
        draft.write_text(text, encoding="utf-8")


def _check_place(target: Path) -> None:
    place = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not place.is_dir():
        raise NotADirectoryError(f"{target} can't be written: {place} is no folder; choose another path")
    if any(len(os.fsencode(part)) > _LONGEST for part in target.parts):
        raise OSError(f"{target} can't be written: its name is longer than {_LONGEST} bytes; choose a shorter one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{target} can't be written: {place} is read-only; choose another path")


def _prefix(target: Path) -> str:
    return f".{target.name[:50]}."  # of four bytes each at most


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A temporary folder beside a target, held so that another process's :func:`sweep` leaves it."""
    with ExitStack() as clearing:
        with undisturbed():
            held: bool | None = False
            while not held:  # another process is sweeping it away
                workshop = Path(tempfile.mkdtemp(_WORKSHOP, _prefix(target), target.parent))
                held = clearing.enter_context(hold(workshop))
            clearing.callback(_clear, workshop)
        yield workshop


def _clear(workshop: Path) -> None:
    """Remove a workshop, and put back the folder in it that has no successor in its place."""
    with undisturbed():
        for old in workshop.glob("old/*"):
            if not os.path.lexists(workshop.parent / old.name):
                old.rename(workshop.parent / old.name)
        shutil.rmtree(workshop, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system can't."""
    name, arguments = {
        "linux": ("renameat2", (-100, os.fsencode(first), -100, os.fsencode(second), 2)),  # AT_FDCWD, RENAME_EXCHANGE
        "darwin": ("renamex_np", (os.fsencode(first), os.fsencode(second), 2)),  # RENAME_SWAP
    }.get(sys.platform, ("", ()))
    function = getattr(ctypes.CDLL(None), name, None) if name else None
    return function is not None and function(*arguments) == 0


def _flush(path: Path, *, alone: bool = False) -> None:
    """Have a file, or a folder with what is in it, written to the disk."""
    if os.name == "nt":  # folders can't be opened there
        return
    for entry in () if alone or not path.is_dir() else path.iterdir():
        if not entry.is_symlink():
            _flush(entry)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
