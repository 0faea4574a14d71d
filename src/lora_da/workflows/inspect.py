"""The spectra of an adapter or of statistics, for choosing a rank: the work behind ``lora-da inspect``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from lora_da.pipeline.solution import check_collection, report_layer, solve_layers
from lora_da.report.initialization import load_report
from lora_da.report.layers import LayerReport, group_by_kind
from lora_da.statistics.storage import load_statistics
from lora_da.workflows.settings import preset_config

_SHARES = (0.25, 0.5, 0.75, 0.9)


def reports_of(source: Path, rank: int, preset: str) -> dict[str, LayerReport]:
    """The layers of an adapter folder's report, or of a statistics file solved by a preset.

    Of each layer in a file, ``rank`` eigenpairs are found (or its input width, if that is less).

    Raises:
        FileNotFoundError: There is no such folder or file, or the folder has no report.
        ValueError: The file holds no statistics.
    """
    if source.is_dir():
        return load_report(source).layers
    statistics = load_statistics(source)
    config = dataclasses.replace(preset_config(preset, seed=0), population_size=statistics.population_size)
    check_collection(statistics, config)
    ranks = {name: min(rank, statistics.gradient_sums[name].shape[1]) for name in statistics.layers}
    inits, _ = solve_layers(statistics, ranks, config)
    return {name: report_layer(init, tokens=statistics.tokens[name], scaling=1.0) for name, init in inits.items()}


def ranks_needed(layers: Mapping[str, LayerReport]) -> list[tuple[str, ...]]:
    """A header, and for each kind of layer the rank at which a share of Δ's energy is captured."""
    rows: list[tuple[str, ...]] = [("layers", *(f"{share:.0%}" for share in _SHARES))]
    for kind, group in group_by_kind(layers).items():
        cells = []
        for share in _SHARES:
            needed = [_rank_for(layer, share) for layer in group]
            middle = median(needed)
            cells.append(f"> {group[0].rank}" if middle == float("inf") else f"{middle:g}")
        rows.append((kind, *cells))
    return rows


def _rank_for(layer: LayerReport, share: float) -> float:
    """The first rank that captures the share; infinite if none of those known does."""
    return next((k for k, energy in enumerate(layer.captured_energy, 1) if energy >= share), float("inf"))
