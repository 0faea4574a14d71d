"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def refuse_existing(*targets: Path | None, overwrite: bool) -> None:
    """Refuse to write where something is already; called before any work, so that none is in vain.

    None stands for a path that is not wanted.

    Raises:
        FileExistsError: One of them exists and may not be replaced.
    """
    for target in targets:
        if target is not None and target.exists() and not overwrite:
            raise FileExistsError(
                f"{target} exists already; choose another path, or ask for it to be replaced (--overwrite)"
            )


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
    refuse_existing(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own beside the target: same file system, so that the rename is atomic.
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft, old = workshop / target.name, workshop / f"{target.name}.old"
    try:
        yield draft
        refuse_existing(target, overwrite=overwrite)
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


def write_text(target: Path | str, text: str, *, overwrite: bool = False) -> None:
    """Write a UTF-8 text file, which appears whole or not at all.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is false.
    """
    with atomic_path(target, overwrite=overwrite) as draft:
        draft.write_text(text, encoding="utf-8")
