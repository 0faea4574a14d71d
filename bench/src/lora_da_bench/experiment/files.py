"""Files that appear complete or not at all, and the names of a comparison's files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

RUNS = "runs"
"""The folder of the records in an experiment's folder."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside its place, then rename it; an earlier file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        try:
            draft.write(data)
            draft.close()
            Path(draft.name).chmod(0o666 & ~_umask())  # temporary files are for their owner alone
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
