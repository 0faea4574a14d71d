"""The equations of the method, dense, in float64, written for reading: what the library is compared with.

Nothing here is shared with the library but its data structures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_da import LoraDAConfig
from lora_da.statistics.sums import LayerStatistics


@dataclass
class OracleSolution:
    delta: Tensor
    omega: Tensor
    values: Tensor  # all, ascending
    A: Tensor
    delta_A: Tensor


def solve(
    layer: LayerStatistics,
    rank: int,
    config: LoraDAConfig,
    input_damping: float | None = None,
    output_damping: float | None = None,
) -> OracleSolution:
    """Section 2 to 4 of the method, step by step; dampings may be given as absolute numbers."""
    S, T = layer.examples, layer.tokens
    G = layer.gradient_sum.double() / S
    Z = layer.input_sum.double() / T
    Y = layer.output_sum.double() / T
    diag_Y = Y.diagonal() if Y.ndim == 2 else Y
    eye = torch.eye(len(Z), dtype=torch.float64)
    relative = config.damping_mode == "relative"
    if input_damping is None:
        input_damping = config.input_damping * (float(Z.trace()) / len(Z) if relative else 1.0)
    if output_damping is None:
        output_damping = config.output_damping * (float(diag_Y.mean()) if relative else 1.0)
    inverse = torch.linalg.inv(Z + input_damping * eye)
    if config.output_factor == "diagonal_of_inverse":
        y = torch.linalg.inv(Y + output_damping * torch.eye(len(Y), dtype=torch.float64)).diagonal()
    else:
        y = 1 / (diag_Y + output_damping)

    T_bar = T / S
    u = T_bar if config.fisher_unit == "example" else 1.0
    delta = -torch.diag(y) @ G @ inverse / u
    N = config.population_size or float("inf")
    omega = config.variance_weight * y.sum() / (N * u) * inverse - config.bias_weight * delta.T @ delta
    if config.sample_correction == "simple":
        omega += config.bias_weight * T_bar / u**2 * y.sum() / S * inverse
    omega = (omega + omega.T) / 2
    values, vectors = torch.linalg.eigh(omega)
    A = vectors[:, :rank].T
    return OracleSolution(delta, omega, values, A, delta @ A.T)


def randn(seed: int, *shape: int) -> Tensor:
    """Standard normal entries in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def largest_angle(first: Tensor, second: Tensor) -> float:
    """The largest principal angle between two subspaces given by orthonormal rows, in radians.

    From the sine, which is accurate for small angles.
    """
    outside = first - (first @ second.T) @ second
    return float(torch.asin(torch.linalg.matrix_norm(outside, 2).clamp(max=1.0)))


def relative_gap(values: Tensor, rank: int) -> float:
    """(ω_{r+1} − ω_r)/|ω_1|; infinite if the subspace is everything."""
    if rank >= len(values):
        return float("inf")
    return float((values[rank] - values[rank - 1]) / values[0].abs())


@dataclass
class LossOracle:
    whitened: Tensor  # in coordinates of the symmetric root of Z
    sizes: Tensor  # all singular values, descending
    A: Tensor
    B: Tensor  # of the step, with no more columns than the gradient has singular values
    excess: Tensor  # expected change of the loss by each of the first directions
    root: Tensor  # the symmetric root of Z

    def step(self, rank: int) -> Tensor:
        """The product B A of the first rows."""
        return self.B[:, :rank] @ self.A[: min(rank, self.B.shape[1])]


def solve_in_loss_metric(layer: LayerStatistics, rank: int, config: LoraDAConfig) -> LossOracle:
    """Section 8 of the method with symmetric roots, by eigen- and singular value decompositions."""
    S, N = layer.examples, config.population_size or float("inf")
    T_bar = layer.tokens / S if config.fisher_unit == "example" else 1.0
    G = layer.gradient_sum.double() / S
    Z, Y = layer.input_sum.double() / layer.tokens, layer.output_sum.double() / layer.tokens
    diag_Y = Y.diagonal() if Y.ndim == 2 else Y
    relative = config.damping_mode == "relative"
    Z_damped = Z + config.input_damping * (Z.diagonal().mean() if relative else 1.0) * torch.eye(len(Z)).double()
    Y_damped = diag_Y + config.output_damping * (diag_Y.mean() if relative else 1.0)
    values, vectors = torch.linalg.eigh(Z_damped)
    inverse_root = vectors @ torch.diag(values**-0.5) @ vectors.T
    whitened = T_bar**-0.5 * torch.diag(Y_damped**-0.5) @ G @ inverse_root
    U, sizes, Vh = torch.linalg.svd(whitened)
    d_out, d_in = G.shape
    edge, low = ((d_out**0.5 + sign * d_in**0.5) ** 2 / S for sign in (1, -1))
    squares = sizes**2
    shrunken = torch.where(squares > edge, ((squares - edge) * (squares - low)).clamp(min=0).sqrt() / sizes, 0 * sizes)
    A = Vh[:rank] @ inverse_root
    kept = min(rank, len(sizes))
    B = -(T_bar**-0.5) * torch.diag(Y_damped**-0.5) @ U[:, :kept] @ torch.diag(shrunken[:kept])
    root = vectors @ torch.diag(values**0.5) @ vectors.T
    return LossOracle(whitened, sizes, A, B, d_out / (2 * N) - shrunken**2 / 2, root)
