"""How many directions of each layer are worth their parameters."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def ranks_worth_learning(changes: Mapping[str, Float[Tensor, " k"]]) -> dict[str, int]:
    """Return how many directions of each layer lower the expected loss, but one at least.

    Args:
        changes: By how much each direction is expected to change an example's loss, ascending, see
            :func:`lora_da.solver.loss_metric.expected_changes`.
    """
    return {name: max(int((values < 0).sum()), 1) for name, values in changes.items()}


def ranks_within(changes: Mapping[str, Float[Tensor, " k"]], costs: Mapping[str, int], budget: int) -> dict[str, int]:
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
            heapq.heappush(queue, (float(changes[name][ranks[name]]) / costs[name], name))

    for name in changes:
        offer(name)
    while queue:
        _, name = heapq.heappop(queue)
        if costs[name] <= left:
            left -= costs[name]
            ranks[name] += 1
            offer(name)
    return ranks
