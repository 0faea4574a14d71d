"""Layers at the edges of what float64 and the adapter's precision hold: what is reported is true, and else an error."""

from __future__ import annotations

import dataclasses
import math
import random
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from attacks.rounds import main
from lora_da import CollectionConfig, LayerInit, LayerStatistics, LoraDAConfig, solve_layer
from lora_da.solver.factors import SolverError, solver_errors
from lora_da.solver.rounding import fit_to_precision
from lora_da.solver.scale import scale_factors
from presets import PARAMETERS

Matrix = list[list[Fraction]]
PRESETS = [PARAMETERS, LoraDAConfig.released(), LoraDAConfig.paper(), LoraDAConfig()]
PRECISIONS = [torch.float16, torch.bfloat16, torch.float32]


def _layer(chance: random.Random, spread: float, size: float, most: int = 16) -> LayerStatistics:
    """Sums whose input spectrum spans so many orders of magnitude, with its middle at 10^size."""
    generator = torch.Generator().manual_seed(chance.randrange(2**31))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d_out, d_in = chance.randrange(2, most), chance.randrange(3, most)
    tokens = chance.choice([max(1, d_in // 2), d_in + 2, 5 * d_in])
    a = normal(tokens, d_in) * torch.logspace(spread / 4, -spread / 4, d_in, dtype=torch.float64) * 10 ** (size / 2)
    a = a @ torch.linalg.qr(normal(d_in, d_in))[0] if chance.random() < 0.5 else a
    g = normal(tokens, d_out) * 10 ** chance.uniform(-6, 2)
    dtype = chance.choice([torch.float32, torch.float64])
    squares = (a.T @ a, g.T @ g)  # whose last bits need not be symmetric
    Z, Y = (((square + square.T) / 2).to(dtype) for square in squares)
    return LayerStatistics((g.T @ a).to(dtype), Z, Y, tokens, max(1, tokens // 3))


def attack_residual(number: int) -> list[str]:
    """The residual that is reported is never below the one that exact arithmetic gives."""
    chance = random.Random(number)
    config = dataclasses.replace(chance.choice(PRESETS[:2]), population_size=1000)
    layer = _layer(chance, chance.uniform(0, 14), chance.uniform(-4, 4), most=6)
    layer = dataclasses.replace(layer, output_sum=layer.output_sum.diagonal())
    try:
        init = solve_layer(layer, chance.randrange(1, 3), config)
    except SolverError:
        return []
    assert init is not None
    exact = _exact_residual(layer, config, init)
    return (
        [] if init.residual >= exact * (1 - 1e-6) else [f"the residual is {exact:.3e}, said to be {init.residual:.3e}"]
    )


def _exact_residual(layer: LayerStatistics, config: LoraDAConfig, init: LayerInit) -> float:
    """The largest ‖Ω x − ω x‖ over the largest |ω|, in rational numbers but for the roots at the end."""
    S, T, N = layer.examples, layer.tokens, config.population_size
    assert N is not None
    Z, G = _exact(layer.input_sum), _exact(layer.gradient_sum)
    d_in = len(Z)
    damped = [[Z[i][j] / T + (Fraction(init.input_damping) if i == j else 0) for j in range(d_in)] for i in range(d_in)]
    inverse = _inverted(damped)
    y = [1 / (Fraction(v) / T + Fraction(init.output_damping)) for v in layer.output_sum.double().tolist()]
    unit = Fraction(T, S) if config.fisher_unit == "example" else Fraction(1)
    delta = [[-y[i] / unit / S * entry for entry in row] for i, row in enumerate(_product(G, inverse))]
    weight = Fraction(config.variance_weight) * sum(y) / (N * unit)
    if config.sample_correction == "simple":
        weight += Fraction(config.bias_weight) * Fraction(T, S) * sum(y) / (unit**2 * S)
    A = _exact(init.A)
    values = [Fraction(value) for value in init.eigenvalues.tolist()[: len(A)]]
    first, second = _product(A, inverse), _product(_product(A, _transposed(delta)), delta)
    largest = max(map(abs, values))
    worst = Fraction(0)
    for x, near, far, value in zip(A, first, second, values, strict=True):
        off = [weight * p - Fraction(config.bias_weight) * q - value * e for p, q, e in zip(near, far, x, strict=True)]
        worst = max(worst, sum(e * e for e in off) / largest**2)
    return math.sqrt(worst)


def _exact(matrix: Tensor) -> Matrix:
    return [[Fraction(entry) for entry in row] for row in matrix.double().tolist()]


def _transposed(matrix: Matrix) -> Matrix:
    return [list(row) for row in zip(*matrix, strict=True)]


def _product(left: Matrix, right: Matrix) -> Matrix:
    columns = _transposed(right)
    return [[sum((p * q for p, q in zip(row, column, strict=True)), Fraction(0)) for column in columns] for row in left]


def _inverted(matrix: Matrix) -> Matrix:
    """By Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for k in range(size):
        rows[k] = [entry / rows[k][k] for entry in rows[k]]
        for i in range(size):
            if i != k:
                rows[i] = [p - rows[i][k] * q for p, q in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]


def attack_precision(number: int) -> list[str]:
    """Any spectrum, preset, scale and precision: A and B hold what was solved, or it is said how much they lose."""
    chance = random.Random(number)
    preset = chance.choice(PRESETS)
    scale: Any = chance.choice(["theory", "stable", "searched", "zero"])
    precision = chance.choice(PRECISIONS)
    collection = CollectionConfig(preset.collection.loss_reduction, "full")
    config = dataclasses.replace(preset, collection=collection, population_size=1000, init_scale=scale)
    layer = _layer(chance, chance.uniform(0, 42), chance.uniform(-18, 6))
    try:
        init = solve_layer(layer, chance.randrange(1, layer.gradient_sum.shape[1] + 1), config)
        if init is None:
            return []
        with solver_errors():
            A, B = scale_factors(
                init,
                scaling=10 ** chance.uniform(-3, 3),
                init_scale=config.init_scale,
                stable_gamma=config.stable_gamma,
            )
    except SolverError:
        return []
    moved_A, moved_B, power, lost = fit_to_precision(A, B, (precision, precision))
    if not torch.equal(moved_A * 2.0**power, A) or not torch.equal(moved_B * 2.0**-power, B):
        return [f"2^{power} changes the product in {precision}"]
    if lost == float("inf"):
        return []  # refused when it is written
    rounded = moved_B.to(precision).double() @ moved_A.to(precision).double()
    sizes = torch.linalg.vector_norm(A, dim=1) * torch.linalg.vector_norm(B, dim=0)
    off, allowed = float(torch.linalg.matrix_norm(rounded - B @ A)), (2 * lost + lost**2) * float(sizes.sum())
    return (
        [] if off <= allowed * (1 + 1e-9) else [f"{precision} takes {off:.1e} of the product, said to be {allowed:.1e}"]
    )


def attack(number: int) -> list[str]:
    """Solve two layers, one for each question."""
    return [*attack_residual(number), *attack_precision(number)]


if __name__ == "__main__":
    main(attack, 400)
