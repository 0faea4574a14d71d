"""The solution of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, repr=False)
class LayerInit:
    """The solution of one layer, before any scaling; its tensors are in float64.

    Attributes:
        A: Rows that span the subspace: orthonormal ones in the metric of the parameters, with A Z_λ Aᵀ = I in that of
            the loss.
        delta_A: The B for which B A is the best step within the subspace: Δ Aᵀ, or ``loss_metric.py``'s.
        eigenvalues: What each direction is expected to change, so that negative ones gain: the r lowest eigenvalues of
            Ω and, if there is one, the next, so k = min(r + 1, d_in); or an example's loss, in nats.
        captured_energy: The share of ‖Δ‖² that the first k rows keep; of ‖Δ̂‖² in the metric of the loss.
        delta_norm: σ, the largest singular value of the step: of Δ, or of B A in the metric of the loss.
        activation_covariance: M = A Z Aᵀ.
        input_mean_square: tr(Z)/d_in.
        input_damping: λ really used, absolute; ``input_raised``: how often it had to be raised.
        output_damping: λ' really used, absolute; ``output_raised``: the same.
        residual: The largest ‖Ω x − ω x‖ of the r eigenvectors, relative to the largest |ω|, measured from the sums
            with more digits than float64 has (see ``_residual.py``); in the metric of the loss the square of the same
            for ĜᵀĜ, which bounds the share of ‖Δ̂‖² that the span misses.
        noise_ratios: The k leading singular values of Ĝ over the largest that noise alone would have: a direction is
            real where this is above 1. None in the metric of the parameters.
        half_overlap: How far two halves of the sample span the same, from r/d_in to 1; None where that is not known.
    """

    A: Float[Tensor, "r d_in"]
    delta_A: Float[Tensor, "d_out r"]
    eigenvalues: Float[Tensor, " k"]
    captured_energy: Float[Tensor, " r"]
    delta_norm: float
    activation_covariance: Float[Tensor, "r r"]
    input_mean_square: float
    input_damping: float
    input_raised: int
    output_damping: float
    output_raised: int
    residual: float
    noise_ratios: Float[Tensor, " k"] | None = None
    half_overlap: float | None = None

    def __repr__(self) -> str:
        (rank, d_in), d_out = self.A.shape, len(self.delta_A)
        kept = float(self.captured_energy[-1])
        return f"LayerInit(rank {rank} of a layer with {d_in} inputs and {d_out} outputs, {kept:.1%} of the energy)"
