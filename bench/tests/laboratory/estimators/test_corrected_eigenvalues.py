from __future__ import annotations

import torch
from torch import Tensor

from laboratory.made_samples import make_sample, orthonormal_rows, sample_of
from lora_da_bench.laboratory.estimators.corrected_eigenvalues import CorrectedSums
from lora_da_bench.laboratory.estimators.sample import LayerSample
from lora_da_bench.laboratory.estimators.subspaces import SUBSPACES
from oracles import largest_angle, randn

MADE = make_sample()
PLUS = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(5))


def test_the_moments_are_the_diagonal_of_the_fisher_matrix() -> None:
    """Of the whole (d_out·d_in)² matrix of vectorised gradients, in the basis of all products of eigenvectors."""
    sums = CorrectedSums(MADE.sample.statistics)
    for part in range(0, len(MADE.a), 16):
        sums.add(MADE.a[part : part + 16], MADE.g[part : part + 16])
    gradients = torch.einsum("slo,sli->soi", MADE.g, MADE.a).flatten(1)
    J = gradients.T @ gradients / len(gradients)
    for found in sums.finish().values():
        basis = torch.kron(found.outputs.contiguous(), found.inputs.contiguous())
        torch.testing.assert_close(found.moments.flatten(), (basis.T @ J @ basis).diagonal().clone())
    full, diagonal = (sums.finish()[name] for name in ("full", "diagonal"))
    torch.testing.assert_close(full.moments.sum(), diagonal.moments.sum())  # the trace of J, in any basis
    assert torch.equal(diagonal.outputs, torch.eye(5, dtype=torch.float64))
    off = full.outputs.T @ torch.einsum("slo,slp->op", MADE.g, MADE.g) @ full.outputs
    assert (off - off.diagonal().diag()).abs().max() < 1e-9 * off.abs().max()


def sample_with(input_sizes: Tensor, output_sizes: Tensor, repeats: int = 8) -> LayerSample:
    """Examples of one token: of each pair of an output's axis i and an input's axis j so many of one size.

    An example's gradient is ±s_ij e_i r_jᵀ, s the product of the sizes, so that the Fisher matrix is diagonal in these
    axes, s_ij² up to a factor, and G is free, as ``PLUS`` of the repeats have a positive sign.
    """
    d_out, d_in = PLUS.shape
    axes = torch.linalg.qr(randn(0, d_in, d_in)).Q
    triples = [(i, j, 1 if k < PLUS[i, j] else -1) for i in range(d_out) for j in range(d_in) for k in range(repeats)]
    a = torch.stack([sign * input_sizes[i, j] * axes[j] for i, j, sign in triples])
    g = torch.stack([output_sizes[i, j] * torch.eye(d_out, dtype=torch.float64)[i] for i, j, _ in triples])
    return sample_of(a[:, None], g[:, None])


def rows_of(name: str, sample: LayerSample) -> Tensor:
    return orthonormal_rows(SUBSPACES[name].rows(sample, 2))


def test_of_a_product_the_span_is_the_whitened_one() -> None:
    """Where the Fisher information is a product nothing is there to correct."""
    y, z = torch.logspace(0, -1, 4, dtype=torch.float64), torch.logspace(0, -1.5, 6, dtype=torch.float64)
    sample = sample_with(z.expand(4, 6), y[:, None].expand(4, 6))
    for damping in ("0.1", "1"):
        assert largest_angle(rows_of(f"ekfac-{damping}", sample), rows_of(f"whitened-{damping}", sample)) < 1e-6
    assert largest_angle(rows_of("ekfac-inputs-1", sample), rows_of("whitened-1", sample)) < 1e-6


def test_of_no_product_more_of_the_gain_is_reached() -> None:
    """Of the loss that the true, diagonal Fisher matrix lets Δ gain; each span with its best B, row by row."""

    def share_lost(name: str, seed: int) -> float:
        sizes = (1.5 * randn(seed, 4, 6)).exp()
        sample = sample_with(sizes.sqrt(), sizes.sqrt())
        axes = torch.linalg.qr(randn(0, 6, 6)).Q  # as rows, those of the inputs
        A, F = rows_of(name, sample) @ axes.T, sizes.square() / PLUS.numel()
        best = -(sample.gradient @ axes.T) / F
        lost = 0.0
        for target, weights in zip(best, F.sqrt(), strict=True):
            fitted = torch.linalg.lstsq((weights * A).T, (weights * target)[:, None]).solution[:, 0]
            lost += float((weights * (target - fitted @ A)).square().sum())
        return lost / float((F * best.square()).sum())

    means = {name: sum(share_lost(name, seed) for seed in range(20)) / 20 for name in ("ekfac-0.1", "whitened-0.1")}
    assert means["ekfac-0.1"] < 0.9 * means["whitened-0.1"], means
