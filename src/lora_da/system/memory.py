"""Memory: what is free, and the peak of its use."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


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
