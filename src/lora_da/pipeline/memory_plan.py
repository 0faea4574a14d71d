"""Where the sums are kept, and in how many passes over the data they are collected, so that they fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lora_da.config import CollectionConfig
from lora_da.pipeline.memory_limits import MemoryLimits
from lora_da.statistics.accumulator import Place
from lora_da.statistics.halves import choose_halved
from lora_da.system.sizes import format_size


@dataclass(frozen=True)
class MemoryPlan:
    """How the statistics are collected. The result does not depend on it.

    Attributes:
        place: The sums are kept on the layers' "device", or in the "host"'s memory.
        passes: The layers of each pass over the data, in the model's order; a backward pass stops at its lowest layer.
        bytes: The size of each pass's sums, of which one pass's are held at a time.
        halved: The layers whose gradients are also kept for half of the examples; none where that would cost a pass.
    """

    place: Place
    passes: tuple[tuple[str, ...], ...]
    bytes: tuple[int, ...]
    halved: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = "beside the model" if self.place == "device" else "in the host's memory"
        passes = "one pass" if len(self.passes) == 1 else f"{len(self.passes)} passes"
        return f"{passes} over the data, with at most {format_size(max(self.bytes))} of sums {where}"


def plan_memory(
    shapes: Mapping[str, tuple[int, int]],
    input_groups: Mapping[str, str],
    devices: Mapping[str, str],
    limits: MemoryLimits,
    config: CollectionConfig,
    *,
    compensated: bool = False,
    itemsize: int = 4,
) -> MemoryPlan:
    """Return the plan with the fewest passes: on the devices if all fits there, else in the host, else in parts.

    Args:
        shapes: (d_out, d_in) of each layer, in the model's order.
        input_groups: For each layer, the first of those that receive the same input and so share one input factor.
        devices: The name of each layer's device.
        limits: What the sums may take.
        config: What is collected.
        compensated: Whether the sums carry along what rounding takes off them.
        itemsize: The bytes of an entry of the sums: 8 for a float64 model, else 4.

    Raises:
        ValueError: Not even the layers of one input fit; the message names them and says what would help.
    """
    members: dict[str, list[str]] = {}
    for name in shapes:
        members.setdefault(input_groups[name], []).append(name)
    groups = [
        _Group(
            tuple(names),
            sums_bytes([shapes[name] for name in names], config, compensated=compensated, itemsize=itemsize),
        )
        for names in members.values()
    ]
    plan = _plan_groups(groups, devices, limits)
    half_bytes = {name: itemsize * math.prod(shapes[name]) for name in choose_halved(list(shapes))}
    larger = [replace(one, bytes=one.bytes + sum(half_bytes.get(name, 0) for name in one.names)) for one in groups]
    try:
        halving = _plan_groups(larger, devices, limits)
    except ValueError:
        return plan
    same = (halving.place, len(halving.passes)) == (plan.place, len(plan.passes))
    return replace(halving, halved=tuple(half_bytes)) if same else plan


def _plan_groups(groups: Sequence[_Group], devices: Mapping[str, str], limits: MemoryLimits) -> MemoryPlan:
    plans: list[tuple[Place, list[list[_Group]]]] = []
    if on_devices := _fill_passes(groups, devices, limits.devices):
        plans.append(("device", on_devices))
    if limits.host is not None and (on_host := _fill_passes(groups, dict.fromkeys(devices, ""), {"": limits.host})):
        plans.append(("host", on_host))
    if not plans:
        raise ValueError(_refusal(max(groups, key=lambda group: group.bytes), limits))
    place, passes = min(plans, key=lambda plan: len(plan[1]))
    return MemoryPlan(
        place,
        tuple(tuple(name for group in part for name in group.names) for part in passes),
        tuple(sum(group.bytes for group in part) for part in passes),
    )


@dataclass(frozen=True)
class _Group:
    """The layers that share an input, and the size of their sums."""

    names: tuple[str, ...]
    bytes: int


def _fill_passes(
    groups: Iterable[_Group], place_of: Mapping[str, str], room: Mapping[str, int]
) -> list[list[_Group]] | None:
    """Fill pass after pass in the model's order; None if the layers of one input exceed the room by themselves."""
    passes: list[list[_Group]] = [[]]
    left = dict(room)
    for group in groups:
        place = place_of[group.names[0]]
        if group.bytes > room[place]:
            return None
        if group.bytes > left[place]:
            passes.append([])
            left = dict(room)
        passes[-1].append(group)
        left[place] -= group.bytes
    return passes


def _refusal(largest: _Group, limits: MemoryLimits) -> str:
    others = f" and those that share its input ({len(largest.names)} layers)" if len(largest.names) > 1 else ""
    allowed = max([*limits.devices.values(), limits.host or 0])
    return (
        f"the sums of layer {largest.names[0]}{others} take {format_size(largest.bytes)}, and {format_size(allowed)} "
        "are allowed for: raise the memory budget to that at least, or leave the layer out of target_modules"
    )


def sums_bytes(
    shapes: list[tuple[int, int]], config: CollectionConfig, *, compensated: bool = False, itemsize: int = 4
) -> int:
    """Return the bytes of the sums of layers that share an input.

    They have one input factor together, and each has a gradient and an output factor.
    """
    d_in = shapes[0][1]
    full = config.output_factor == "full"
    entries = d_in**2 + sum(d_out * d_in + (d_out**2 if full else d_out) for d_out, _ in shapes)
    carry = 2 if compensated and itemsize == 4 else 0
    return entries * (itemsize + carry)
