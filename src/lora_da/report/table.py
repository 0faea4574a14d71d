"""Rows of the short tables: layers of the same kind taken together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from lora_da.report.initialization import LayerReport

HEADER = ("layers", "count", "rank", "tokens/d_in", "energy captured", "negative ω", "σ of Δ", "damping")


def kind_of(layer: str) -> str:
    """A layer's name without the numbers of blocks and experts: ``layers.3.mlp.up_proj`` becomes ``mlp.up_proj``."""
    return re.split(r"(?:^|\.)\d+\.", re.sub(r"\.\d+$", "", layer))[-1]


def by_kind(layers: Mapping[str, LayerReport]) -> dict[str, list[LayerReport]]:
    """Layers of the same kind, see :func:`kind_of`, taken together."""
    kinds: dict[str, list[LayerReport]] = defaultdict(list)
    for name, layer in layers.items():
        kinds[kind_of(name)].append(layer)
    return kinds


def layer_rows(layers: Mapping[str, LayerReport]) -> list[tuple[str, ...]]:
    """A header and one row for each kind of layer, with medians over the layers of that kind."""
    rows: list[tuple[str, ...]] = [HEADER]
    for kind, group in by_kind(layers).items():
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
