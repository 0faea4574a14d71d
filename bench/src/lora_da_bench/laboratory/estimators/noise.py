"""The noise of the whitened gradient, measured, beside what the theory says of it.

In the loss metric the sampling noise of Ĝ = T̄^-½ Y^-½ G Z^-½ is taken to be white, with the variance 1/S an entry.
Then no singular value of noise lies above (√d_out + √d_in)/√S. Its assumptions fail where tokens of one example depend
on one another, where gradients depend on inputs, and where Y and Z are damped or Y is taken for diagonal.

Without them: part the examples into halves at random. (G_1 − G_2)/2, of the halves' own means, has the mean zero and
the variance of G's noise: that of a half's mean is twice as large, that of the difference four times, and of this a
quarter is left. Its largest singular value, whitened as G is, is that of noise alone; many partitions show how much it
varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.layer_passes import see_layers
from lora_da_bench.laboratory.estimators.sample import LayerSample
from lora_da_bench.laboratory.estimators.subspaces import whiten_gradient


@dataclass(frozen=True)
class NoiseEdge:
    """Where noise ends, for one layer.

    Attributes:
        formula: (√d_out + √d_in)/√S, nats^½.
        measured: (partitions,), the largest singular value of each half-difference, ascending.
        singular_values: Of Ĝ, descending.
    """

    formula: float
    measured: Tensor
    singular_values: Tensor

    @property
    def median(self) -> float:
        """The median of what was measured, as the formula's edge is about the middle of what noise reaches."""
        return float(self.measured.median())

    @property
    def highest(self) -> float:
        """The measured edge that 95 % of the partitions stay below."""
        return float(self.measured.quantile(0.95))

    def count_above(self, edge: float) -> int:
        """How many directions of Ĝ are real if noise ends there."""
        return int((self.singular_values > edge).sum())


def measure_noise(
    model: Any, examples: Examples, samples: Mapping[str, LayerSample], damping: float, partitions: int, seed: int
) -> dict[str, NoiseEdge]:
    """Measure the edge of each layer's noise.

    Args:
        model: A plain model.
        examples: Those of the samples, an even number of them.
        samples: By layer.
        damping: Of Z, in its mean eigenvalues.
        partitions: How many.
        seed: Of the partitions.

    Raises:
        ValueError: The number of examples is odd.
    """
    if len(examples) % 2:
        raise ValueError(f"{len(examples)} examples have no halves: take an even number")
    generator = torch.Generator().manual_seed(seed)
    halves = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(examples) // 2)
    signs = torch.stack([halves[torch.randperm(len(halves), generator=generator)] for _ in range(partitions)])
    return {
        name: _find_edge(sample, differences, damping)
        for (name, sample), differences in zip(
            samples.items(), _half_differences(model, examples, list(samples), signs).values(), strict=True
        )
    }


def _half_differences(model: Any, examples: Examples, layers: list[str], signs: Tensor) -> dict[str, Tensor]:
    """(G_1 − G_2)/2 = (1/S) Σ_e ±G_e of each layer, (partitions, d_out, d_in)."""
    found: dict[str, Tensor] = {}
    done = 0
    for seen in see_layers(model, layers, examples):
        for name, (a, g) in seen.items():
            own = torch.einsum("ke,eoi->koi", signs[:, done : done + len(a)], g.mT @ a) / len(examples)
            found[name] = found[name] + own if name in found else own
        done += len(a)
    return found


def _find_edge(sample: LayerSample, differences: Tensor, damping: float) -> NoiseEdge:
    d_out, d_in = sample.gradient.shape
    return NoiseEdge(
        formula=(d_out**0.5 + d_in**0.5) / sample.statistics.examples**0.5,
        measured=torch.linalg.matrix_norm(whiten_gradient(sample, differences, damping), ord=2).sort().values,
        singular_values=torch.linalg.svdvals(whiten_gradient(sample, sample.gradient, damping)),
    )
