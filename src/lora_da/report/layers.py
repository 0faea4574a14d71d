"""One initialised layer in numbers, and a table of the layers of each kind taken together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, repr=False)
class LayerReport:
    """One initialised layer.

    Attributes:
        rank: LoRA's r.
        scaling: s, which PEFT multiplies B A with.
        tokens: The number of tokens that the layer's Fisher factors were estimated from.
        tokens_per_input_dimension: The same, divided by the layer's input width.
        eigenvalues: The r lowest eigenvalues of Ω and, if there is one, the next; in the metric of the loss by how much
            each direction is expected to change an example's loss, in nats.
        negative_eigenvalues: How many of the first r are negative: each of those directions gains more than it costs.
        captured_energy: The share of ‖Δ‖² that the first k rows of A capture, for k from 1 to r.
        delta_norm: σ, the largest singular value of Δ.
        input_damping: What was added to the input factor's eigenvalues.
        output_damping: The same of the output factor.
        damping_raised: How often either had to be raised, since rounding had made the factor indefinite.
        residual: The largest residual of the r eigenvectors, relative to the largest eigenvalue among them.
        shape: The layer's (d_out, d_in); None in reports of earlier versions.
        noise_ratios: How large each of the directions is beside the largest that noise alone would make, as many as
            there are eigenvalues; None in the metric of the parameters, and in reports of earlier versions.
        half_overlap: The share of its span on which two halves of the examples agree, each by itself: 1 if it is the
            same, r/d_in by chance. Known of a few layers, and if the examples came in more than one batch.
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
    shape: tuple[int, int] | None = None
    noise_ratios: tuple[float, ...] | None = None
    half_overlap: float | None = None

    def __repr__(self) -> str:
        return f"LayerReport(rank {self.rank}, {self.tokens} tokens, {self.captured_energy[-1]:.1%} of the energy)"

    @property
    def expected_change(self) -> float:
        """By how much the r directions together are expected to change an example's loss, if that is the metric."""
        return sum(self.eigenvalues[: self.rank])

    @property
    def real_directions(self) -> int | None:
        """How many of the r directions stand above the noise; None if that is not known."""
        return None if self.noise_ratios is None else sum(ratio > 1 for ratio in self.noise_ratios[: self.rank])


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


def round_gain(gain: float) -> str:
    """Return a number with three digits, never as a power of ten where it is large."""
    return f"{gain:,.0f}" if abs(gain) >= 100 else f"{gain:.3g}"


HEADER = ("layers", "count", "rank", "tokens/d_in", "real", "kept", "gain")


def tabulate_layers(layers: Mapping[str, LayerReport], *, gains: bool) -> list[tuple[str, ...]]:
    """Return the header and one row for each kind of layer, with medians over the layers of that kind.

    Args:
        layers: The layers.
        gains: Whether the eigenvalues are changes of the loss.

    Returns:
        Behind the kind: how many layers, their rank, tokens per input dimension, how many of all their directions are
        above the noise (or, where that is not known, have negative eigenvalues), the energy that is kept, and their
        share of all expected gains.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    total = sum(layer.expected_change for layer in layers.values())
    for kind, group in group_by_kind(layers).items():
        ranks = sorted({layer.rank for layer in group})
        real = sum(
            layer.negative_eigenvalues if layer.real_directions is None else layer.real_directions for layer in group
        )
        rows.append(
            (
                kind,
                str(len(group)),
                str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}",
                f"{median(layer.tokens_per_input_dimension for layer in group):.3g}",
                f"{real}/{sum(layer.rank for layer in group)}",
                f"{median(layer.captured_energy[-1] for layer in group):.1%}",
                f"{sum(layer.expected_change for layer in group) / total:.0%}" if gains and total else "–",
            )
        )
    return rows
