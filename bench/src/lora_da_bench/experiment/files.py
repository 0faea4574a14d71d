"""Files that appear complete or not at all, and the names of a comparison's files."""

from __future__ import annotations

from pathlib import Path

from lora_da.system.files import atomic_path

RUNS = "runs"
"""The folder of the records in an experiment's folder."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that appears whole; an earlier file is replaced."""
    with atomic_path(path, overwrite=True) as draft:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
