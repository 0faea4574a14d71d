"""The short table of an initialisation: one row for each kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from lora_da.report.layers import LayerReport, group_by_kind

HEADER = ("layers", "count", "rank", "tokens/d_in", "energy captured", "negative ω", "σ of Δ", "damping")


def tabulate_layers(layers: Mapping[str, LayerReport]) -> list[tuple[str, ...]]:
    """Return the header and one row for each kind of layer, with medians over the layers of that kind."""
    rows: list[tuple[str, ...]] = [HEADER]
    for kind, group in group_by_kind(layers).items():
        ranks = sorted({layer.rank for layer in group})
        rows.append(
            (
                kind,
                str(len(group)),
                str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}",
                f"{median(layer.tokens_per_input_dimension for layer in group):.3g}",
                f"{median(layer.captured_energy[-1] for layer in group):.1%}",
                f"{sum(layer.negative_eigenvalues for layer in group)}/{sum(layer.rank for layer in group)}",
                f"{median(layer.delta_norm for layer in group):.2g}",
                f"{median(layer.input_damping for layer in group):.2g}",
            )
        )
    return rows
