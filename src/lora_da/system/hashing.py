"""Digests of files, texts, tensors and batches, which tell whether two of them are the same.

Files and texts have SHA-256. A tensor can be as large as the memory and lie on a GPU, so that its entries are added up
where they are: as 32-bit words, each times an odd 64-bit number that its place gives, modulo 2⁶⁴. That reads each byte
once, gives the same on every device, and tells any one changed entry; two tensors that differ otherwise have the same
sum by a chance of 2⁻³². Who seeks two with one sum will find them: it is no protection against intent.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_WORDS = 2**20  # added up at once: the products take 8 MiB


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
    return hash_lines(f"{name} {tensor.dtype} {tuple(tensor.shape)} {hash_entries(tensor)}" for name, tensor in tensors)


def hash_batches(batches: Iterable[Any]) -> str:
    """Return the digest of all that batches hold: mappings, sequences, tensors, and what its ``repr`` tells all of."""
    return hash_lines(line for number, batch in enumerate(batches) for line in _lines_of(str(number), batch))


def _lines_of(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Tensor):
        yield hash_tensors([(name, value)])
    elif isinstance(value, Mapping | list | tuple):
        yield f"{name!r} {len(value)}"
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _lines_of(f"{name}/{key}", entry)
    else:
        yield repr((name, value))


def hash_entries(tensor: Tensor) -> str:
    """Return the digest of a tensor's bits, see above; that of zeros is not that of fewer zeros."""
    tensor = tensor.detach()
    flat = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).contiguous().flatten()
    size = flat.numel() * flat.element_size()
    if size == 0:
        return "nothing"
    if flat.storage_offset() * flat.element_size() % 4:  # then it can't be read as words
        flat = flat.clone()
    word = torch.int32 if size % 4 == 0 else torch.int16 if size % 2 == 0 else torch.uint8
    words, factors = flat.view(torch.uint8).view(word), _factors(flat.device)
    sums = torch.stack([(part * factors[: len(part)]).sum() for part in words.split(_WORDS)])
    return hash_lines([f"{size} {sums.tolist()}"])[:16]


@functools.cache
def _factors(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-(2**63), 2**63 - 1, (_WORDS,), generator=generator, dtype=torch.int64, device="cpu")
    return (drawn | 1).to(device)
