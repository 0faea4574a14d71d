"""How much longer solving takes on a machine whose every core is taken by others.

    python benchmarks/busy.py --results results/busy

``--layers`` layers, of the shapes that SmolLM2-135M's blocks have, with synthetic statistics as in widths.py;
rank 8, the default settings, torch's own number of threads. They are solved in turn alone and beside one process for
each core that multiplies matrices; ``slowdown`` is the ratio of the medians. With as many others as cores, a fair share
of the machine is half of it, so that 2 is in proportion.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch

from about_run import describe_run
from lora_da import CollectionConfig, LoraDAConfig, Statistics
from lora_da.pipeline.solution import solve_layers
from lora_da.statistics.products import gram, product
from lora_da.system.files import write_text
from widths import RANK, TOKENS, tokens

SHAPES = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=210)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    arguments = parser.parse_args()
    statistics = synthetic_statistics(arguments.layers)
    solved(statistics)  # the first time pays for what is loaded
    seconds: dict[str, list[float]] = {"alone": [], "busy": []}
    for _ in range(arguments.repeats):
        seconds["alone"].append(solved(statistics))
        with others(os.cpu_count() or 1):
            seconds["busy"].append(solved(statistics))
    figures = {name: median(values) for name, values in seconds.items()}
    figures["slowdown"] = figures["busy"] / figures["alone"]
    if arguments.results:
        about = {
            **describe_run(),
            "threads": torch.get_num_threads(),
            "layers": arguments.layers,
            "seconds": seconds,
            "figures": figures,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


def synthetic_statistics(count: int) -> Statistics:
    """Statistics of so many layers; those of one shape are equal, which the solver does not know."""
    made = {}
    for d_out, d_in in set(SHAPES):
        a, g = tokens(d_in, seed=0), tokens(d_out, seed=1)
        gradient = product(g, a, torch.float32) + 30 * torch.outer(g[0], a[0])
        made[d_out, d_in] = gradient, gram(a, torch.float32) + TOKENS * 1e-3 * torch.eye(d_in), g.square().sum(0)
    shapes = {str(number): shape for number, shape in enumerate(islice(cycle(SHAPES), count))}
    return Statistics(
        gradient_sums={name: made[shape][0] for name, shape in shapes.items()},
        output_sums={name: made[shape][2] for name, shape in shapes.items()},
        input_sums={name: made[shape][1] for name, shape in shapes.items()},
        input_groups={name: name for name in shapes},
        tokens=dict.fromkeys(shapes, TOKENS),
        examples=16,
        loss_sum=0.0,
        config=CollectionConfig(),
    )


def solved(statistics: Statistics) -> float:
    """The seconds that solving takes."""
    started = time.perf_counter()
    solve_layers(statistics, dict.fromkeys(statistics.layers, RANK), LoraDAConfig(), progress=False)
    return time.perf_counter() - started


@contextmanager
def others(count: int) -> Iterator[None]:
    """Processes that keep a core busy each."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=multiply, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    time.sleep(5)  # until they are at work
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def multiply() -> None:
    """Never ends."""
    torch.set_num_threads(1)
    matrix = torch.randn(512, 512)
    while True:
        matrix @ matrix


if __name__ == "__main__":
    main()
