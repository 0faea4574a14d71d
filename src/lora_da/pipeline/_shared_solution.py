"""The layers shared out among processes by cost, solved, and exchanged, so that all have the same solutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.config import LoraDAConfig
from lora_da.distributed.processes import Processes
from lora_da.pipeline.solution import solve_layers
from lora_da.solver.layer import LayerInit
from lora_da.statistics.sums import Statistics

if TYPE_CHECKING:
    from jaxtyping import Float

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
    error = None
    try:
        if mine:
            solved, unsolved = solve_layers(statistics, mine, config, device, progress=progress)
    except Exception as raised:  # raised again, in every process
        error = raised
    processes.raise_together(error, _DOING)
    reasons: dict[str, str] = {}
    for others in processes.gather_objects(unsolved, _DOING):
        reasons |= others
    exchanged: dict[str, LayerInit] = {}
    for name, rank in ranks.items():
        if name not in reasons:
            d_out, d_in = statistics.gradient_sums[name].shape
            size = packed_size(rank, d_in, d_out)
            flat = pack_solution(solved[name]) if name in solved else torch.empty(size, dtype=torch.float64)
            flat = processes.broadcast_from(owners[name], flat, _DOING)
            exchanged[name] = unpack_solution(flat, rank, d_in, d_out)
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


def pack_solution(init: LayerInit) -> Float[Tensor, " n"]:
    """Return a solution as one vector of float64."""
    values = [getattr(init, field.name) for field in dataclasses.fields(init)]
    return torch.cat(
        [
            value.flatten().cpu() if isinstance(value, Tensor) else torch.tensor([value], dtype=torch.float64)
            for value in values
        ]
    )


def packed_size(rank: int, d_in: int, d_out: int) -> int:
    """Return the length of :func:`pack_solution`'s vector."""
    return sum(torch.Size(shape).numel() for shape in _shapes(rank, d_in, d_out).values())


def unpack_solution(flat: Float[Tensor, " n"], rank: int, d_in: int, d_out: int) -> LayerInit:
    """Return the solution that :func:`pack_solution` packed."""
    shapes = _shapes(rank, d_in, d_out)
    parts = flat.split([torch.Size(shape).numel() for shape in shapes.values()])
    values = {
        name: part.view(shape) if shape else part.item()
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    for name in ("input_raised", "output_raised"):
        values[name] = int(values[name])
    return LayerInit(**values)


def _shapes(rank: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
    """Of each field of a solution; () for a number."""
    shapes: dict[str, tuple[int, ...]] = {field.name: () for field in dataclasses.fields(LayerInit)}
    return shapes | {
        "A": (rank, d_in),
        "delta_A": (d_out, rank),
        "eigenvalues": (min(rank + 1, d_in),),
        "captured_energy": (rank,),
        "activation_covariance": (rank, rank),
    }
