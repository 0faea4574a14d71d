"""Where the sums are kept, and in how many passes over the data they are collected, so that they fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from lora_da.config import CollectionConfig
from lora_da.statistics.accumulator import Place
from lora_da.system.memory import MemoryBudget, free_bytes, parse_size

_SHARE = 0.7  # of what is free, for "auto": the rest is for activations and the solver


@dataclass(frozen=True)
class MemoryPlan:
    """How the statistics are collected. The result does not depend on it.

    Attributes:
        place: The sums are kept on the layers' "device", or in the "host"'s memory.
        passes: The layers of each pass over the data, in the model's order; a backward pass stops at its lowest layer.
        bytes: The size of each pass's sums, of which one pass's are held at a time.
    """

    place: Place
    passes: tuple[tuple[str, ...], ...]
    bytes: tuple[int, ...]

    def __str__(self) -> str:
        where = "beside the model" if self.place == "device" else "in the host's memory"
        passes = "one pass" if len(self.passes) == 1 else f"{len(self.passes)} passes"
        return f"{passes} over the data, with at most {gibibytes(max(self.bytes))} of sums {where}"


@dataclass(frozen=True)
class MemoryLimits:
    """What the sums may take, in bytes.

    Attributes:
        devices: On each device that holds layers, by its name.
        host: In the host's memory beside these devices; None where a device is the host itself.
    """

    devices: Mapping[str, int]
    host: int | None


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


def plan_memory(
    shapes: Mapping[str, tuple[int, int]],
    input_groups: Mapping[str, str],
    devices: Mapping[str, str],
    limits: MemoryLimits,
    config: CollectionConfig,
    *,
    compensated: bool = False,
) -> MemoryPlan:
    """The plan with the fewest passes: on the devices if all fits there, else in the host's memory, else in parts.

    Args:
        shapes: (d_out, d_in) of each layer, in the model's order.
        input_groups: For each layer, the first of those that receive the same input and so share one input factor.
        devices: The name of each layer's device.
        limits: What the sums may take.
        config: What is collected.
        compensated: Whether the sums carry along what rounding takes off them.

    Raises:
        ValueError: Not even the layers of one input fit; the message names them and says what would help.
    """
    groups: dict[str, list[str]] = {}
    for name in shapes:
        groups.setdefault(input_groups[name], []).append(name)
    sizes = {
        first: size_of([shapes[name] for name in names], config, compensated=compensated)
        for first, names in groups.items()
    }

    def passes_within(room: Mapping[str, int], place_of: Mapping[str, str]) -> list[list[str]] | None:
        """Fill pass after pass in the model's order; None if the layers of one input exceed the room by themselves."""
        passes: list[list[str]] = [[]]
        left = dict(room)
        for first, names in groups.items():
            place = place_of[names[0]]
            if sizes[first] > room[place]:
                return None
            if sizes[first] > left[place]:
                passes.append([])
                left = dict(room)
            passes[-1] += names
            left[place] -= sizes[first]
        return passes

    plans: list[tuple[Place, list[list[str]]]] = []
    if on_devices := passes_within(limits.devices, devices):
        plans.append(("device", on_devices))
    if limits.host is not None and (on_host := passes_within({"": limits.host}, dict.fromkeys(shapes, ""))):
        plans.append(("host", on_host))
    if not plans:
        largest = max(sizes, key=lambda first: sizes[first])
        together = (
            f" and those that share its input ({len(groups[largest])} layers)" if len(groups[largest]) > 1 else ""
        )
        raise ValueError(
            f"the sums of layer {largest}{together} take {gibibytes(sizes[largest])}, and "
            f"{gibibytes(max([*limits.devices.values(), limits.host or 0]))} are allowed for: raise the memory budget "
            "to that at least, or leave the layer out of target_modules"
        )
    place, passes = min(plans, key=lambda plan: len(plan[1]))
    totals = [
        sum(sizes[input_groups[name]] for name in names if name == groups[input_groups[name]][0]) for names in passes
    ]
    return MemoryPlan(place, tuple(map(tuple, passes)), tuple(totals))


def size_of(shapes: list[tuple[int, int]], config: CollectionConfig, *, compensated: bool = False) -> int:
    """Bytes of the sums of layers that share an input: one input factor, a gradient and an output factor for each.

    Args:
        shapes: (d_out, d_in) of each; d_in is the same for all.
        config: What is collected.
        compensated: As in :func:`plan_memory`.
    """
    d_in = shapes[0][1]
    full = config.output_factor == "full"
    entries = d_in**2 + sum(d_out * d_in + (d_out**2 if full else d_out) for d_out, _ in shapes)
    carry = 2 if compensated and config.accumulation_dtype == "float32" else 0
    return entries * (config.torch_dtype.itemsize + carry)


def gibibytes(size: int) -> str:
    """A size in words."""
    if size >= 2**27:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
