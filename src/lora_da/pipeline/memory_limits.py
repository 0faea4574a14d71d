"""What the sums may take of the memory there is, on each device and in the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lora_da.system.memory import free_bytes
from lora_da.system.sizes import MemoryBudget, parse_size

_SHARE = 0.7  # of what is free, for "auto": the rest is for activations and the solver


@dataclass(frozen=True)
class MemoryLimits:
    """What the sums may take, in bytes.

    Attributes:
        devices: On each device that holds layers, by its name.
        host: In the host's memory beside these devices; None where a device is the host itself.
    """

    devices: Mapping[str, int]
    host: int | None


def find_memory_limits(
    devices: Mapping[torch.device, str], budget: MemoryBudget, *, processes: int = 1, solver: int = 0
) -> MemoryLimits:
    """Return what the sums may take on each device and beside them.

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
    host = usable_share(free_bytes(torch.device("cpu")) // processes, solver if by_host else 0)
    limits = {
        name: size if size is not None else usable_share(apart[device]) if device in apart else host
        for device, name in devices.items()
    }
    return MemoryLimits(limits, host if len(apart) == len(devices) else None)


def usable_share(free: int, solver: int = 0) -> int:
    """Return what the sums may take of free memory, in which a layer is then solved."""
    return max(0, min(int(_SHARE * free), free - solver))


def least_limits(limits: Sequence[MemoryLimits]) -> MemoryLimits:
    """Return what the sums may take in every one of some processes, whose devices have the same names."""
    hosts = [own.host for own in limits if own.host is not None]
    devices = {name: min(own.devices[name] for own in limits) for name in limits[0].devices}
    return MemoryLimits(devices, min(hosts) if hosts else None)
