"""EK-FAC's corrected eigenvalues: second moments of the gradient's entries, in the eigenbases of Y and Z.

K-FAC's model J = T̄·Y ⊗ Z has the eigenvalues T̄·y_i·z_j in the basis of all products of an eigenvector u_i of Y and v_j
of Z. In any basis of products the diagonal of J is E[(u_iᵀ G_e v_j)²] with G_e = Σ_tokens g aᵀ the gradient of one
example, and no diagonal matrix in that basis is nearer to J (George et al., "Fast approximate natural gradient descent
in a Kronecker factored eigenbasis", arXiv 1806.03884). It sees that tokens of one example depend on one another, and
inputs on gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_da import LayerStatistics


@dataclass(frozen=True)
class CorrectedFisher:
    """The diagonal of an example's Fisher information in a basis of products.

    Attributes:
        outputs: (d_out, d_out), orthonormal columns u_i.
        inputs: (d_in, d_in), orthonormal columns v_j.
        moments: (d_out, d_in), the mean over examples of (u_iᵀ G_e v_j)².
    """

    outputs: Tensor
    inputs: Tensor
    moments: Tensor


class CorrectedSums:
    """The sums of a layer's squared entries, in the eigenbasis of Z and that of Y, or of Y's diagonal."""

    def __init__(self, statistics: LayerStatistics) -> None:
        self._inputs = torch.linalg.eigh(statistics.input_sum.double()).eigenvectors
        Y = statistics.output_sum.double()
        self._outputs = {"full": torch.linalg.eigh(Y).eigenvectors, "diagonal": torch.eye(len(Y), dtype=Y.dtype)}
        self._sums = {name: torch.zeros(len(Y), len(self._inputs), dtype=Y.dtype) for name in self._outputs}
        self._examples = statistics.examples

    def add(self, a: Tensor, g: Tensor) -> None:
        """Add some examples: a (B, L, d_in), g (B, L, d_out)."""
        rotated = a @ self._inputs
        for name, basis in self._outputs.items():
            for own_g, own_a in zip(g @ basis, rotated, strict=True):
                self._sums[name] += (own_g.mT @ own_a).square()

    def finish(self) -> dict[str, CorrectedFisher]:
        """The means, by what of Y the basis is of."""
        return {
            name: CorrectedFisher(self._outputs[name], self._inputs, total / self._examples)
            for name, total in self._sums.items()
        }
