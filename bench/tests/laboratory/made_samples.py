"""Samples of one made-up layer, with what they were summed from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_da import LayerStatistics
from lora_da_bench.laboratory.estimators.corrected_eigenvalues import CorrectedFisher
from lora_da_bench.laboratory.estimators.sample import InputMoments, LayerSample
from oracles import randn


@dataclass(frozen=True)
class Made:
    sample: LayerSample
    a: Tensor  # (S, L, d_in)
    g: Tensor  # (S, L, d_out)


def make_sample(d_out: int = 5, d_in: int = 9, examples: int = 40, length: int = 6, seed: int = 0) -> Made:
    """Inputs with a mean and a covariance of several decades, and gradients that depend on them."""
    mixing = randn(seed, d_in, d_in) * torch.logspace(0.5, -1.5, d_in, dtype=torch.float64)
    a = randn(seed + 1, examples, length, d_in) @ mixing.T + randn(seed + 2, d_in)
    a = a * (0.5 + randn(seed + 3, examples, 1, 1).abs())  # tokens of one example depend on one another
    g = randn(seed + 4, examples, length, d_out) * torch.logspace(0, -1, d_out, dtype=torch.float64)
    g = g + 0.3 * a @ randn(seed + 5, d_in, d_out)
    return Made(sample_of(a, g), a, g)


def sample_of(a: Tensor, g: Tensor, population: int = 1000, name: str = "layer", seed: int = 0) -> LayerSample:
    statistics = LayerStatistics(
        gradient_sum=torch.einsum("slo,sli->oi", g, a),
        input_sum=torch.einsum("sli,slj->ij", a, a),
        output_sum=torch.einsum("slo,slp->op", g, g),
        tokens=a.shape[0] * a.shape[1],
        examples=len(a),
    )
    grams = torch.einsum("sli,slj->sij", a, a) / a.shape[1]
    moments = InputMoments(a.mean((0, 1)), float(a.norm(dim=2).pow(4).mean()), float(grams.pow(2).sum((1, 2)).mean()))
    axes = {"full": torch.linalg.eigh(statistics.output_sum).eigenvectors, "diagonal": torch.eye(g.shape[2]).double()}
    inputs = torch.linalg.eigh(statistics.input_sum).eigenvectors
    corrected = {
        of: CorrectedFisher(outputs, inputs, torch.einsum("slo,oi,sla,aj->sij", g, outputs, a, inputs).pow(2).mean(0))
        for of, outputs in axes.items()
    }
    return LayerSample(name, statistics, moments, corrected, a.shape[1] - 1, population, seed)


def orthonormal_rows(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.svd(rows, full_matrices=False).Vh
    return basis
