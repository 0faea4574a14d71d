"""How many directions of each layer are worth their parameters, and how many keep a share of the energy."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from statistics import median

from lora_da.report.layers import LayerReport, group_by_kind

_SHARES = (0.25, 0.5, 0.75, 0.9)


def ranks_worth_learning(changes: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Return how many directions of each layer lower the expected loss, but one at least.

    Args:
        changes: By how much each direction is expected to change an example's loss, ascending, see
            :func:`lora_da.solver.loss_metric.expected_changes`.
    """
    return {name: max(sum(value < 0 for value in values), 1) for name, values in changes.items()}


def ranks_within(changes: Mapping[str, Sequence[float]], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Return the ranks that lower the expected loss most with no more than so many parameters.

    Directions are taken by what they gain for a parameter, the best first. Each layer's come in descending order, so
    that no other choice of as many parameters gains more, but for the last direction that does not fit.

    Args:
        changes: As in :func:`ranks_worth_learning`; a layer gets as many as it has entries at most.
        costs: Parameters of one rank of each layer, d_in + d_out.
        budget: Parameters of all ranks. One rank of each layer is taken in any case.
    """
    ranks = dict.fromkeys(changes, 1)
    left = budget - sum(costs[name] for name in changes)
    queue: list[tuple[float, str]] = []

    def offer(name: str) -> None:
        if ranks[name] < len(changes[name]):
            heapq.heappush(queue, (changes[name][ranks[name]] / costs[name], name))

    for name in changes:
        offer(name)
    while queue:
        _, name = heapq.heappop(queue)
        if costs[name] <= left:
            left -= costs[name]
            ranks[name] += 1
            offer(name)
    return ranks


def suggest_ranks(
    layers: Mapping[str, LayerReport], budget: int | None = None, *, largest: int | None = None
) -> dict[str, int]:
    """Return the ranks that the directions of a report in the metric of the loss ask for.

    A report holds one direction more than each layer's rank. Where the choice would go beyond, it is not made up.

    Args:
        layers: The layers of the report.
        budget: As many parameters as this rank in each of these layers has; without it, all directions count that are
            worth learning.
        largest: The largest rank, if there is to be one.

    Raises:
        ValueError: The budget or the largest rank is below 1; the report is of an earlier version, without the layers'
            shapes; or it does not hold as many directions as the choice depends on.
    """
    if any(given is not None and given < 1 for given in (budget, largest)):
        raise ValueError(f"the budget ({budget}) and the largest rank ({largest}) must be at least 1")
    shapes = {name: layer.shape for name, layer in layers.items() if layer.shape is not None}
    if len(shapes) < len(layers):
        raise ValueError(
            "the report is of an earlier version, which did not keep the shapes of layers: initialise anew"
        )
    ends = {name: min(largest or min(shape), *shape) for name, shape in shapes.items()}
    changes = {name: layer.eigenvalues[: ends[name]] for name, layer in layers.items()}
    if budget is None:
        ranks = ranks_worth_learning(changes)
    else:
        costs = {name: sum(shape) for name, shape in shapes.items()}
        ranks = ranks_within(changes, costs, budget * sum(costs.values()))
    for name, rank in ranks.items():
        if len(changes[name]) == rank < ends[name]:
            raise ValueError(
                f"layer {name} may deserve more than the {rank} directions that the report holds: name a largest rank "
                f"(up to {min(len(layer.eigenvalues) for layer in layers.values())}), initialise with a larger rank "
                "than the budget, or use lora_da.choose_ranks with statistics"
            )
    return ranks


def tabulate_needed_ranks(layers: Mapping[str, LayerReport]) -> list[tuple[str, ...]]:
    """Return a header, and for each kind of layer the rank at which a share of Δ's energy is captured."""
    rows: list[tuple[str, ...]] = [("layers", *(f"{share:.0%}" for share in _SHARES))]
    for kind, group in group_by_kind(layers).items():
        cells = []
        for share in _SHARES:
            middle = median(_rank_for(layer, share) for layer in group)
            cells.append(f"> {group[0].rank}" if middle == float("inf") else f"{middle:g}")
        rows.append((kind, *cells))
    return rows


def _rank_for(layer: LayerReport, share: float) -> float:
    """The first rank that captures the share; infinite if none of those known does."""
    return next((k for k, energy in enumerate(layer.captured_energy, 1) if energy >= share), float("inf"))
