"""How much memory there is, and how much of it the statistics may take."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from lora_da.statistics.plan import MemoryLimits

_SHARE = 0.7  # of what is free, for "auto": the rest is for activations and the solver
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

MemoryBudget = int | str
"""A number of bytes, a size such as "24GiB", or "auto": 0.7 of what is free."""


def memory_limits(
    devices: Mapping[torch.device, str], budget: MemoryBudget, *, processes: int = 1, solver: int = 0
) -> MemoryLimits:
    """What the sums may take on each device and beside them.

    Args:
        devices: Those that hold layers, and their names in the limits.
        budget: A size is what the sums may take on each of the devices; beside GPUs, 0.7 of the host's free
            memory may be used whatever the size.
        processes: How many share the host's memory.
        solver: What the solution of the largest layer takes, by the host where it is more than a GPU has free.

    Raises:
        ValueError: The budget is no size.
    """
    size = None if budget == "auto" else parse_size(budget)
    apart = {device: free_bytes(device) for device in devices if device.type not in ("cpu", "mps")}
    by_host = len(apart) < len(devices) or any(solver > free for free in apart.values())
    host = share_of(free_bytes(torch.device("cpu")) // processes, solver if by_host else 0)
    limits = {
        name: size if size is not None else share_of(apart[device]) if device in apart else host
        for device, name in devices.items()
    }
    return MemoryLimits(limits, host if len(apart) == len(devices) else None)


def share_of(free: int, solver: int = 0) -> int:
    """What the sums may take of free memory, in which a layer is then solved."""
    return max(0, min(int(_SHARE * free), free - solver))


def parse_size(size: int | str) -> int:
    """Bytes of a size such as "24GiB" or "500MB".

    Raises:
        ValueError: It is none, or not above zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|)\s*", str(size), re.IGNORECASE)
    found = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if found < 1:
        raise ValueError(f'the memory budget must be "auto", a number of bytes or a size such as "24GiB", not {size!r}')
    return found


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, with what torch has reserved and not used; of the host for all but CUDA devices."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    if not _MEMINFO.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="ascii").splitlines())
    available = 1024 * int(lines["MemAvailable"].split()[0])
    try:  # a container, or a job of a scheduler
        limit, used = (
            (_CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
        return available if limit == "max" else max(0, min(available, int(limit) - int(used)))
    except (OSError, ValueError):
        return available
