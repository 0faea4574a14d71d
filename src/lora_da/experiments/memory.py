"""Peak memory of a stretch of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass
class PeakMemory:
    """The highest memory in use: of the GPU where one is used, else of the process; None where it can't be told."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak while the block runs; ``bytes`` is set when it ends.

    The kernel's own high-water mark is reset first, so that earlier work of the process doesn't count.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    resettable = False
    with suppress(OSError):
        _CLEAR.write_text("5")  # proc(5): resets VmHWM
        resettable = True
    try:
        yield peak
    finally:
        if device.type == "cuda":
            peak.bytes = torch.cuda.max_memory_allocated(device)
        elif resettable:
            peak.bytes = _high_water_mark()


def _high_water_mark() -> int | None:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
