"""Fingerprints: SHA-256 digests of files and tensors, which tell whether two of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor


def hash_file(path: Path | str) -> str:
    """Return the digest of a file's content, which is read in pieces, since it can be as large as the memory.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_lines(lines: Iterable[str]) -> str:
    """Return the digest of a text file with these lines, none of which holds a line break."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the digest of some named tensors: of their names, precisions, shapes and every bit of their entries."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        entries = tensor.detach().cpu().contiguous().flatten()
        digest.update(entries.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
