"""Files that appear complete or not at all, and the names of a comparison's files."""

from __future__ import annotations

import os
from pathlib import Path

RUNS = "runs"
"""The folder of the records in an experiment's folder."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a name of this process beside its place, then rename it; an earlier file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
