"""Sizes of memory in words."""

from __future__ import annotations

import re

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}

MemoryBudget = int | str
"""A number of bytes, a size such as "24GiB", or "auto": 0.7 of what is free."""


def parse_size(size: int | str) -> int:
    """Return the bytes of a size such as "24GiB" or "500MB".

    Raises:
        ValueError: It is none, or not above zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|)\s*", str(size), re.IGNORECASE)
    found = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if found < 1:
        raise ValueError(f'the memory budget must be "auto", a number of bytes or a size such as "24GiB", not {size!r}')
    return found


def format_size(size: int) -> str:
    """Return a number of bytes in words, such as "1.50 GiB"."""
    if size >= 2**27:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
