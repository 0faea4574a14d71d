"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file or a folder under a temporary name and rename it when all went well.

    Args:
        target: The final path. Missing parent folders are made.
        overwrite: Replace what is there already.

    Yields:
        A path beside ``target`` at which the caller writes a file or makes a folder.

    Raises:
        FileExistsError: ``target`` exists, or has come to exist meanwhile, and ``overwrite`` is false.
    """
    target = Path(target)
    _refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own beside the target: same file system, so that the rename is atomic.
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft, old = workshop / target.name, workshop / f"{target.name}.old"
    try:
        yield draft
        _refuse_existing(target, overwrite)
        try:
            if draft.is_dir() and target.exists():
                # A folder that is not empty can't be replaced in one step: move the old one aside.
                target.rename(old)
            draft.replace(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
    finally:
        if target.exists() or not old.exists():  # else the old folder could not be put back: leave it
            shutil.rmtree(workshop, ignore_errors=True)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; choose another path or ask for overwriting")


def write_text(target: Path | str, text: str, *, overwrite: bool = False) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is false.
    """
    with atomic_path(target, overwrite=overwrite) as draft:
        draft.write_text(text, encoding="utf-8")
