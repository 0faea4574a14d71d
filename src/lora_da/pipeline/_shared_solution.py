"""The layers shared out among processes by cost, solved, and exchanged, so that all have the same solutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lora_da.config import LoraDAConfig
from lora_da.distributed.agreement import failing_together
from lora_da.distributed.processes import Processes
from lora_da.pipeline.solution import solve_layers
from lora_da.solver.layer_init import LayerInit
from lora_da.statistics.sums import Statistics

_DOING = "solving the layers"


def solve_layers_together(
    statistics: Statistics,
    ranks: Mapping[str, int],
    config: LoraDAConfig,
    device: torch.device,
    processes: Processes | None,
    *,
    progress: bool = True,
) -> tuple[dict[str, LayerInit], dict[str, str]]:
    """Solve some layers as :func:`solve_layers` does; in a job of several processes each of them solves its share.

    Raises:
        SolverError: The statistics of one of this process's layers are unusable.
        ProcessError: Those of another process's layers are, or it is gone.
    """
    if processes is None:
        return solve_layers(statistics, ranks, config, device, progress=progress)
    progress = progress and processes.rank == 0
    owners = assign_layers(statistics, ranks, processes.size)
    mine = {name: rank for name, rank in ranks.items() if owners[name] == processes.rank}
    solved: dict[str, LayerInit] = {}
    unsolved: dict[str, str] = {}
    with failing_together(processes, _DOING):
        if mine:
            solved, unsolved = solve_layers(statistics, mine, config, device, progress=progress)
    reasons: dict[str, str] = {}
    for others in processes.gather_objects(unsolved, _DOING):
        reasons |= others
    exchanged: dict[str, LayerInit] = {}
    for name in ranks:
        if name not in reasons:
            init = _on_cpu(solved[name]) if name in solved else None
            exchanged[name] = processes.broadcast_object(owners[name], init, _DOING)
    return exchanged, {name: reasons[name] for name in ranks if name in reasons}


def assign_layers(statistics: Statistics, ranks: Mapping[str, int], size: int) -> dict[str, int]:
    """Return which process solves which layer: those that share an input factor together, the costly ones first."""
    groups: dict[str, list[str]] = {}
    for name in ranks:
        groups.setdefault(statistics.input_groups.get(name, name), []).append(name)

    def cost(names: list[str]) -> float:
        shapes = [statistics.gradient_sums[name].shape for name in names if name in statistics.gradient_sums]
        return sum(d_in**2 * (d_in + d_out) for d_out, d_in in shapes)

    loads = [0.0] * size
    owners: dict[str, int] = {}
    for names in sorted(groups.values(), key=lambda names: (-cost(names), names[0])):
        owner = loads.index(min(loads))
        loads[owner] += cost(names)
        owners |= dict.fromkeys(names, owner)
    return owners


def _on_cpu(init: LayerInit) -> LayerInit:
    tensors: dict[str, Any] = {
        name: value.cpu().contiguous() for name, value in vars(init).items() if isinstance(value, Tensor)
    }
    return dataclasses.replace(init, **tensors)
