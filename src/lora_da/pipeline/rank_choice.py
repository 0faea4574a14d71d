"""The rank of each layer from the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from lora_da.config import LoraDAConfig
from lora_da.pipeline.solution import check_collection, solve_layers
from lora_da.report.ranks import ranks_within, ranks_worth_learning
from lora_da.statistics.sums import Statistics


def choose_ranks(
    statistics: Statistics,
    config: LoraDAConfig | None = None,
    *,
    layers: Iterable[str] | None = None,
    budget: int | None = None,
    largest: int = 64,
    progress: bool = True,
) -> dict[str, int]:
    """Choose each layer's rank from the data, in the metric of the loss.

    The ranks are for ``LoraConfig(rank_pattern=…)``. With ``alpha_pattern={name: s * rank}``, or ``s * rank**0.5`` with
    rslora, all layers have one scaling s, whatever their rank.

    Args:
        statistics: What :func:`lora_da.collect_statistics` gave.
        config: The settings; their metric does not matter.
        layers: Which layers; all that the statistics have, if not given.
        budget: Choose as many parameters as this rank in every layer has, where they gain most. Without it, every
            direction counts that lowers the expected loss by more than the noise that is learnt with it costs, which
            takes the population size into account, as far as it is known.
        largest: The largest rank.
        progress: Whether to show a progress bar.

    Returns:
        The ranks by the layers' names. Layers that the data say nothing about have rank 1.

    Raises:
        ValueError: The budget or the largest rank is not positive, or the statistics don't fit the settings.
    """
    if largest < 1 or (budget is not None and budget < 1):
        raise ValueError(f"the largest rank ({largest}) and the budget ({budget}) must be at least 1")
    config = config or LoraDAConfig()
    check_collection(statistics, config)
    known = config.population_size or statistics.population_size
    if config.metric != "loss":
        config = dataclasses.replace(LoraDAConfig(), collection=config.collection, seed=config.seed)
    config = dataclasses.replace(config, population_size=known)
    names = list(statistics.layers if layers is None else layers)
    shapes = {name: statistics.gradient_sums[name].shape for name in names if name in statistics.gradient_sums}
    most = {name: min(largest, *shape) for name, shape in shapes.items()}
    solved, _ = solve_layers(statistics, most, config, progress=progress)
    changes = {name: init.eigenvalues[: most[name]].tolist() for name, init in solved.items()}
    if budget is None:
        chosen = ranks_worth_learning(changes)
    else:
        costs = {name: sum(shape) for name, shape in shapes.items()}
        spent = sum(costs[name] for name in costs.keys() - solved.keys())  # which have one rank
        chosen = ranks_within(changes, costs, budget * sum(costs.values()) - spent)
    return {name: chosen.get(name, 1) for name in names}
