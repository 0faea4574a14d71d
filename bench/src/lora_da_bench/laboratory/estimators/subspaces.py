"""Subspaces: from a layer's sample to r rows that A could span, one small function each, and their legend.

Rows are a basis in any scale and rotation: every A is brought to one scale afterwards, so that the span alone differs.
Symbols are those of ``docs/method.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import torch
from torch import Tensor

from lora_da import CollectionConfig, LayerStatistics, LoraDAConfig, solve_layer
from lora_da_bench.laboratory.estimators.expected_energy import expected_energy, posterior
from lora_da_bench.laboratory.estimators.sample import LayerSample, rescale_loss
from lora_da_bench.laboratory.estimators.shrinkage import damping_of_weight, ledoit_wolf, oracle_approximating

_OUTPUT_DAMPING = 0.1  # of the mean of diag(Y)
_FLOOR = 1e-10  # of the mean eigenvalue of Z: below it, a direction that the inputs don't have


@dataclass(frozen=True)
class Subspace:
    """A way to choose the span of A.

    Attributes:
        describe: What it is, in a line.
        rows: From a layer's sample and r to a basis (r, d_in), float64.
    """

    describe: str
    rows: Callable[[LayerSample, int], Tensor]


def random_rows(sample: LayerSample, rank: int) -> Tensor:
    """Rows whose span is uniformly distributed; seed and layer draw their own."""
    digest = sha256(f"{sample.seed} {sample.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return torch.randn(rank, len(sample.input_factor), generator=generator, dtype=torch.float64)


def solved_rows(sample: LayerSample, rank: int, config: LoraDAConfig) -> Tensor:
    """The library's A for some settings, by its public solver."""
    return _solved(sample.statistics, sample, rank, config)


def released_rows(sample: LayerSample, rank: int) -> Tensor:
    """The library's preset "released", whose absolute damping belongs to the mean loss of an example's labels."""
    return _solved(rescale_loss(sample, 1 / sample.labels), sample, rank, LoraDAConfig.released())


def _solved(statistics: LayerStatistics, sample: LayerSample, rank: int, config: LoraDAConfig) -> Tensor:
    config = dataclasses.replace(config, population_size=sample.population, seed=sample.seed)
    solution = solve_layer(statistics, rank, config)
    if solution is None:
        raise ValueError("a layer's gradient is zero, so that its data choose no subspace: take another sample")
    return solution.A


def gradient_rows(sample: LayerSample, rank: int) -> Tensor:
    """The leading right singular vectors of G."""
    return _leading(sample.gradient, rank)


def principal_rows(sample: LayerSample, rank: int, *, centred: bool) -> Tensor:
    """The leading eigenvectors of the inputs' covariance, or of their second moment Z.

    EVA (arXiv 2410.07170) as PEFT has it takes those of the covariance, by an incremental and approximate principal
    component analysis; this is the exact one of the same tokens.
    """
    mean = sample.moments.mean
    matrix = sample.input_factor - torch.outer(mean, mean) if centred else sample.input_factor
    return _leading_eigenvectors(matrix, rank).mT


def whitened_rows(sample: LayerSample, rank: int, *, damping: float) -> Tensor:
    """The loss metric: the leading right singular vectors V of M = Y^-½ G L⁻ᵀ with Z_λ = L Lᵀ; A = Vᵀ L⁻¹.

    Args:
        sample: The layer's.
        rank: r.
        damping: λ, in mean eigenvalues of Z.
    """
    L = _root_of_inputs(sample, damping)
    M = whiten_gradient(sample, sample.gradient, damping)
    A: Tensor = torch.linalg.solve_triangular(L.mT, _leading(M, rank).mT, upper=True).mT
    return A


def diagonal_rows(sample: LayerSample, rank: int) -> Tensor:
    """The loss metric with Z's diagonal in the place of Z."""
    diagonal = sample.input_factor.diagonal()
    roots = diagonal.clamp(min=_FLOOR * float(diagonal.mean())).sqrt()
    return _leading(_output_whitened(sample) / roots, rank) / roots


def shrunk_rows(sample: LayerSample, rank: int, *, weight: Callable[[LayerSample], float]) -> Tensor:
    """The loss metric with the damping that the sample's own errors ask for."""
    return whitened_rows(sample, rank, damping=damping_of_weight(weight(sample)))


def bayes_rows(sample: LayerSample, rank: int, *, uncertain: bool) -> Tensor:
    """The span that is expected to reach most of the loss that a Δ of unknown size τ could gain.

    See :mod:`lora_da_bench.laboratory.estimators.expected_energy`.

    Args:
        sample: The layer's.
        rank: r.
        uncertain: Whether what is not known of Δ counts as well, or its expectation alone.
    """
    values, vectors = torch.linalg.eigh(sample.input_factor)
    values = values.clamp(min=_FLOOR * float(values.mean()))
    fisher = sample.tokens_per_example * torch.outer(_damped_outputs(sample), values)
    found = posterior(sample.gradient @ vectors, fisher, sample.statistics.examples)
    energy = expected_energy(found, fisher, uncertain=uncertain)
    A: Tensor = (vectors @ (_leading_eigenvectors(energy, rank) / values.sqrt()[:, None])).mT
    return A


def whiten_gradient(sample: LayerSample, gradient: Tensor, damping: float) -> Tensor:
    """Return Ĝ = T̄^-½ Y^-½ G L⁻ᵀ of one or several gradients (…, d_out, d_in), with the sample's damped factors."""
    rows = gradient / (sample.tokens_per_example * _damped_outputs(sample)).sqrt()[:, None]
    found: Tensor = torch.linalg.solve_triangular(_root_of_inputs(sample, damping), rows.mT, upper=False).mT
    return found


def corrected_rows(sample: LayerSample, rank: int, *, damping: float, outputs: str) -> Tensor:
    """The loss metric with EK-FAC's corrected eigenvalues F_ij in the place of T̄·y_i·z_j.

    In the eigenbases, Ĝ_ij = G_ij/√F_ij, and A's rows are its leading right singular vectors, divided by the root of
    the mean of F over i. F is damped along the inputs by λ times its mean over j, and along the outputs as Y is. Where
    F is a product these are :func:`whitened_rows`; where not, no single root of columns belongs to Ĝ, and the mean is
    the nearest to one.

    Args:
        sample: The layer's.
        rank: r.
        damping: λ.
        outputs: Whether the outputs' basis is that of "full" Y or of its "diagonal".
    """
    found = sample.corrected[outputs]
    fisher = found.moments + damping * found.moments.mean(1, keepdim=True)
    fisher = fisher + _OUTPUT_DAMPING * fisher.mean(0, keepdim=True)
    whitened = found.outputs.mT @ sample.gradient @ found.inputs / fisher.sqrt()
    return _leading(whitened, rank) / fisher.mean(0).sqrt() @ found.inputs.mT


def _root_of_inputs(sample: LayerSample, damping: float) -> Tensor:
    """The lower triangular L of Z_λ = L Lᵀ."""
    Z = sample.input_factor
    L: Tensor = torch.linalg.cholesky(Z + damping * Z.diagonal().mean() * torch.eye(len(Z), dtype=Z.dtype))
    return L


def _damped_outputs(sample: LayerSample) -> Tensor:
    diagonal = sample.output_diagonal
    return diagonal + _OUTPUT_DAMPING * diagonal.mean()


def _output_whitened(sample: LayerSample) -> Tensor:
    """Y^-½ G with the damped diagonal of Y."""
    return sample.gradient / _damped_outputs(sample).sqrt()[:, None]


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Leading right singular vectors as rows; those of a null space are the decomposition's own choice."""
    V: Tensor = torch.linalg.svd(matrix, full_matrices=rank > min(matrix.shape)).Vh[:rank]
    return V


def _leading_eigenvectors(matrix: Tensor, rank: int) -> Tensor:
    """As columns."""
    vectors: Tensor = torch.linalg.eigh(matrix).eigenvectors[:, -rank:]
    return vectors


def _parameters() -> LoraDAConfig:
    """The default of version 0.1, spelt out, whatever the default is now."""
    return LoraDAConfig(
        collection=CollectionConfig(),
        metric="parameters",
        fisher_unit="example",
        output_factor="inverse_of_diagonal",
        input_damping=0.1,
        output_damping=0.1,
        damping_mode="relative",
        bias_weight=1.0,
        variance_weight=1.0,
        sample_correction="simple",
    )


SUBSPACES: dict[str, Subspace] = {
    "random": Subspace("uniformly random", random_rows),
    "parameters": Subspace(
        "the default of version 0.1: distance between parameters, relative damping 0.1, sample correction",
        partial(solved_rows, config=_parameters()),
    ),
    "paper": Subspace("the paper's reading, LoraDAConfig.paper()", partial(solved_rows, config=LoraDAConfig.paper())),
    "released": Subspace("the released settings, LoraDAConfig.released(), for the mean label loss", released_rows),
    "gradient": Subspace("right singular vectors of G", gradient_rows),
    "eva": Subspace("principal components of the inputs, centred as in PEFT", partial(principal_rows, centred=True)),
    "eva-uncentred": Subspace("leading eigenvectors of Z", partial(principal_rows, centred=False)),
    **{
        f"whitened-{damping:g}": Subspace(
            f"loss metric, Z damped by {damping:g} of its mean eigenvalue", partial(whitened_rows, damping=damping)
        )
        for damping in (0.01, 0.1, 1.0, 10.0)
    },
    "both-diagonals": Subspace("loss metric, Z replaced by its diagonal", diagonal_rows),
    **{
        f"ekfac-{damping:g}": Subspace(
            f"loss metric, corrected eigenvalues in the eigenbases of Y and Z, damped by {damping:g} of their mean",
            partial(corrected_rows, damping=damping, outputs="full"),
        )
        for damping in (0.1, 1.0)
    },
    "ekfac-inputs-1": Subspace(
        "the same as ekfac-1 with the outputs' own axes in the place of Y's",
        partial(corrected_rows, damping=1.0, outputs="diagonal"),
    ),
    "ledoit-wolf": Subspace(
        "loss metric, Ledoit and Wolf's weight with the examples as independent",
        partial(
            shrunk_rows,
            weight=lambda s: ledoit_wolf(s.input_factor, s.moments.example_square, s.statistics.examples),
        ),
    ),
    "ledoit-wolf-tokens": Subspace(
        "loss metric, Ledoit and Wolf's weight as if tokens were independent",
        partial(shrunk_rows, weight=lambda s: ledoit_wolf(s.input_factor, s.moments.fourth, s.statistics.tokens)),
    ),
    "oas": Subspace(
        "loss metric, oracle approximating shrinkage with as many normal inputs as examples",
        partial(shrunk_rows, weight=lambda s: oracle_approximating(s.input_factor, s.statistics.examples)),
    ),
    "empirical-bayes": Subspace(
        "loss metric, expected gain under a normal prior of Δ, its size from the sample",
        partial(bayes_rows, uncertain=True),
    ),
    "posterior-mean": Subspace(
        "loss metric, that prior's expectation of Δ alone", partial(bayes_rows, uncertain=False)
    ),
}
"""By name. In all that say "loss metric", Y is its diagonal, damped by 0.1 of its mean, or ekfac's own eigenvalues."""
