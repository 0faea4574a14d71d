"""How a layer's cost grows with its width: solving it, and the sums of its tokens.

    python benchmarks/widths.py --widths 512 1024 2048 4096 8192 --results results/widths

Statistics are synthetic: inputs and gradients of 2048 tokens whose covariances fall off as a power of the index, square
layers, rank 8, the default settings. ``solve_growth`` is the exponent of the solver's time between the two largest
widths (3 is what d_in³ predicts), ``sums_growth`` that of the sums' time for each token (2). Times are the fastest of
``--repeats``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from about_run import describe_run
from lora_da import LayerStatistics, LoraDAConfig
from lora_da.solver.layer import solve_layer, solver_bytes
from lora_da.statistics.products import gram, product
from lora_da.system.files import write_text
from lora_da.system.sizes import format_size

TOKENS = 2048
RANK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192], help="at least two")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    arguments = parser.parse_args()
    rows = [measured(width, arguments.repeats) for width in sorted(arguments.widths)]
    print(
        f"{'width':>6s} {'solve':>10s} {'solve / d³':>12s} {'sums, a token':>14s} {'/ d²':>10s} {'solver needs':>13s}"
    )
    for row in rows:
        width, solve, sums = row["width"], row["solve_seconds"], row["sums_seconds_per_token"]
        print(
            f"{width:6d} {solve:8.2f} s {solve / width**3:12.2e} {sums * 1e6:11.1f} µs {sums / width**2:10.2e} "
            f"{format_size(row['solver_bytes']):>13s}"
        )
    figures = {
        "solve_growth": growth(rows[-2:], "solve_seconds"),
        "sums_growth": growth(rows[-2:], "sums_seconds_per_token"),
    }
    if arguments.results:
        about = {
            **describe_run(),
            "tokens": TOKENS,
            "rank": RANK,
            "measured": rows,
            "figures": figures,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


def growth(rows: list[dict[str, Any]], name: str) -> float:
    """The exponent p of time ∝ width^p between two rows."""
    first, second = rows
    return math.log(second[name] / first[name]) / math.log(second["width"] / first["width"])


def synthetic_statistics(width: int) -> LayerStatistics:
    """Statistics of a square layer."""
    a, g = tokens(width, seed=0), tokens(width, seed=1)
    return LayerStatistics(
        # The mean gradient stands out of the noise in a few directions, as it does on real layers.
        gradient_sum=product(g, a, torch.float32) + 30 * torch.outer(g[0], a[0]),
        # Beyond the rank of the tokens drawn, the tail that more tokens would have.
        input_sum=gram(a, torch.float32) + TOKENS * 1e-3 * torch.eye(width),
        output_sum=g.square().sum(0),
        tokens=TOKENS,
        examples=16,
    )


def measured(width: int, repeats: int) -> dict[str, Any]:
    """One width."""
    a, g = tokens(width, seed=0), tokens(width, seed=1)
    statistics = synthetic_statistics(width)
    config = LoraDAConfig(population_size=7473)
    sums = fastest(lambda: (product(g, a, torch.float32), gram(a, torch.float32)), repeats)
    return {
        "width": width,
        "solve_seconds": fastest(lambda: solve_layer(statistics, RANK, config), repeats),
        "sums_seconds_per_token": sums / TOKENS,
        "solver_bytes": solver_bytes(width, width),
    }


def tokens(width: int, seed: int) -> Tensor:
    """Vectors whose covariance has the eigenvalues 1/i in a basis that is not the axes', (T, width)."""
    generator = torch.Generator().manual_seed(seed)
    scaled = torch.randn(TOKENS, width, generator=generator) * torch.arange(1, width + 1).float().rsqrt()
    for _ in range(4):  # reflections, which need no matrix
        normal = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
        scaled = scaled - 2 * torch.outer(scaled @ normal, normal)
    return scaled


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds."""
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
