"""What half of the examples say by themselves, of some layers: from it is seen how far two halves of a sample agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

_LAYERS = 16
"""So few tell how stable a model's subspaces are, for a fraction of the memory that all would take."""


@dataclass(frozen=True, repr=False)
class Half:
    """The gradients of some layers over about half of the examples.

    Attributes:
        gradient_sums: Σ g aᵀ by layer name, each of shape (d_out, d_in).
        examples: The number of examples; 0 where a sample came in one batch, and so in no halves.
    """

    gradient_sums: dict[str, Tensor] = field(default_factory=dict)
    examples: int = 0

    def __add__(self, other: Half) -> Half:
        """Add a half of other examples; only layers that both have stay, if both have any examples."""
        if not self.examples or not other.examples:
            return self if self.examples else other
        sums = {
            name: tensor + other.gradient_sums[name].to(tensor.device)
            for name, tensor in self.gradient_sums.items()
            if name in other.gradient_sums
        }
        return Half(sums, self.examples + other.examples)


def choose_halved(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers whose half is kept, spread evenly over the order of all."""
    count = min(_LAYERS, len(layers))
    return tuple(layers[(2 * index + 1) * len(layers) // (2 * count)] for index in range(count))
