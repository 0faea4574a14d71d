"""Memory: sizes in words, what is free, and the peak of its use."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

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


def free_bytes(device: torch.device) -> int:
    """Return a CUDA device's free memory, with what torch has reserved and not used, or the host's for other devices.

    The host's is no more than the container or the scheduler's job may still take.
    """
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    available = int(psutil.virtual_memory().available)
    limit, used = _container_memory()
    return available if limit is None else max(0, min(available, limit - used))


def _container_memory() -> tuple[int | None, int]:
    """What the container or the scheduler's job may use, if it has a limit, and what it uses, in bytes."""
    try:
        limit, used = (
            (_CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
        return (None if limit == "max" else int(limit)), int(used)
    except (OSError, ValueError):
        return None, 0


def reset_peak_memory(device: torch.device) -> None:
    """Let the peak of a CUDA device's memory, or of the process's on Linux, count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # not on Linux
            _CLEAR.write_text("5")  # proc(5): resets VmHWM


def peak_memory(device: torch.device) -> int | None:
    """Return the peak of torch's memory on a CUDA device, or of the process's for every other one, in bytes.

    It is that since :func:`reset_peak_memory`; where the system can't reset it, since the process began; None where the
    system can't tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
