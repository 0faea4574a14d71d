"""Empirical Bayes: what the sample says of the displacement Δ, when its size is learned from the sample too.

In the eigenbasis of Z (columns j) the Fisher information of one example is diagonal, F_ij = T̄·y_i·z_j. Near the base,
G = −F∘Δ + noise of variance F/S. With the prior Δ_ij ~ N(0, τ²), the same for all entries:

    G_ij ~ N(0, F²τ² + F/S)                                   its likelihood gives τ²
    Δ_ij | G ~ N(−G_ij / (F + 1/(Sτ²)),  1/(S·F + 1/τ²))      the Fisher information is damped by 1/(Sτ²)

For frozen A the bias, in nats, is ½‖Δ̂(I − P)‖² with Δ̂ = F^½∘Δ. Its expectation is least if P holds the leading
eigenvectors of E[Δ̂ᵀΔ̂ | G]. With a large sample that is the whitened gradient's right singular vectors; with none, where
only the prior is left, it is the leading eigenvectors of Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GRID = 241  # of log τ², 12 decades around the sample's own scale, and once more around the best
_DECADES = 12.0


@dataclass(frozen=True)
class Posterior:
    """What is known of Δ, in the eigenbasis of Z.

    Attributes:
        mean: (d_out, d_in).
        variance: (d_out, d_in).
        prior_variance: τ².
    """

    mean: Tensor
    variance: Tensor
    prior_variance: float


def posterior(gradient: Tensor, fisher: Tensor, examples: int) -> Posterior:
    """Find τ² by maximum likelihood and what follows for Δ.

    Args:
        gradient: G (d_out, d_in), with columns in the eigenbasis of Z.
        fisher: F, above 0.
        examples: S.
    """
    # 1/(F·S) is the variance with which one entry's Δ is known without a prior.
    start = float((1 / (fisher * examples)).log().mean())
    width = _DECADES / 2 * torch.log(torch.tensor(10.0)).item()
    for _ in range(2):
        grid = torch.linspace(start - width, start + width, _GRID, dtype=torch.float64)
        likelihoods = [_log_likelihood(gradient, fisher, examples, float(value)) for value in grid.exp()]
        start, width = float(grid[int(torch.tensor(likelihoods).argmax())]), 2 * width / (_GRID - 1)
    prior = float(torch.tensor(start, dtype=torch.float64).exp())
    return Posterior(
        mean=-gradient / (fisher + 1 / (examples * prior)),
        variance=1 / (examples * fisher + 1 / prior),
        prior_variance=prior,
    )


def _log_likelihood(gradient: Tensor, fisher: Tensor, examples: int, prior: float) -> float:
    """Of τ², but for a constant."""
    variance = fisher.square() * prior + fisher / examples
    return -0.5 * float((variance.log() + gradient.square() / variance).sum())


def expected_energy(found: Posterior, fisher: Tensor, *, uncertain: bool) -> Tensor:
    """E[Δ̂ᵀΔ̂] (d_in, d_in), or that of the expectation of Δ alone unless what is ``uncertain`` counts too."""
    whitened = fisher.sqrt() * found.mean
    energy = whitened.mT @ whitened
    return energy + torch.diag((fisher * found.variance).sum(0)) if uncertain else energy
