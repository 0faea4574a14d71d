"""One initialised layer in numbers, and a table of the layers of each kind taken together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class LayerReport:
    """One initialised layer.

    Attributes:
        rank: LoRA's r.
        scaling: s, which PEFT multiplies B A with.
        tokens: The number of tokens that the layer's Fisher factors were estimated from.
        tokens_per_input_dimension: The same, divided by the layer's input width.
        eigenvalues: The r lowest eigenvalues of Ω and, if there is one, the next.
        negative_eigenvalues: How many of the first r are negative: each of those directions gains more than it costs.
        captured_energy: The share of ‖Δ‖² that the first k rows of A capture, for k from 1 to r.
        delta_norm: σ, the largest singular value of Δ.
        input_damping: What was added to the input factor's eigenvalues.
        output_damping: The same of the output factor.
        damping_raised: How often either had to be raised, since rounding had made the factor indefinite.
        residual: The largest residual of the r eigenvectors, relative to the largest eigenvalue among them.
    """

    rank: int
    scaling: float
    tokens: int
    tokens_per_input_dimension: float
    eigenvalues: tuple[float, ...]
    negative_eigenvalues: int
    captured_energy: tuple[float, ...]
    delta_norm: float
    input_damping: float
    output_damping: float
    damping_raised: int
    residual: float


def kind_of(layer: str) -> str:
    """Return a layer's name without the numbers of blocks and experts.

    ``layers.3.mlp.up_proj`` becomes ``mlp.up_proj``.
    """
    return re.split(r"(?:^|\.)\d+\.", re.sub(r"\.\d+$", "", layer))[-1]


def group_by_kind(layers: Mapping[str, LayerReport]) -> dict[str, list[LayerReport]]:
    """Return the layers of each kind, see :func:`kind_of`."""
    kinds: dict[str, list[LayerReport]] = defaultdict(list)
    for name, layer in layers.items():
        kinds[kind_of(name)].append(layer)
    return kinds


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
