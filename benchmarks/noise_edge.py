"""Where the noise of the whitened gradient ends: by the formula (√d_out + √d_in)/√S, and by halves of the sample.

    LORA_DA_DATA=<data folder> python benchmarks/noise_edge.py --results results/noise-edge

On the laboratory's tiny language model, with S blocks of real text. For each kind of layer, the medians over layers and
domains of the formula's edge, of the largest singular value of a whitened half-difference (G_1 − G_2)/2 (the median
over partitions and, behind "to", what 95 % of them stay below) and of Ĝ's largest, and the mean number of directions of
Ĝ above each edge, the formula's and what 95 % of the half-differences stay below. Y is its diagonal, damped by 0.1 of
its mean; Z is damped by so many mean eigenvalues. Noise is white if neither is damped and tokens are independent: what
is measured says how far that holds.

The last line of the output can be read by a script.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from about_run import describe_run
from lora_da.loading import ModelSource, load_model
from lora_da.system.files import write_text
from lora_da_bench.laboratory.data.domains import find_model, load_domain
from lora_da_bench.laboratory.estimators.noise import NoiseEdge, measure_noise
from lora_da_bench.laboratory.estimators.sample import collect_samples

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; the default is models/stories260K beside $LORA_DA_DATA")
    parser.add_argument("--domains", default="shakespeare,gsm8k,wikitext,arc-easy", help="of the laboratory")
    parser.add_argument("--examples", type=int, default=64, help="S, blocks of text")
    parser.add_argument("--length", type=int, default=128, help="tokens a block")
    parser.add_argument("--dampings", default="0.01,1", help="of Z, in its mean eigenvalues")
    parser.add_argument("--partitions", type=int, default=40, help="of the sample in halves")
    parser.add_argument("--seed", type=int, default=1, help="of the blocks and the partitions")
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    arguments = parser.parse_args()
    rows = measure(arguments)
    for damping in dict.fromkeys(row["damping"] for row in rows):
        own = [row for row in rows if row["damping"] == damping]
        print(f"Z damped by {damping:g} of its mean eigenvalue\n\n{table(own)}\n")
    if arguments.results:
        about = {
            **describe_run(),
            "model": Path(arguments.model or "stories260K").name,
            "settings": {name: value for name, value in vars(arguments).items() if name not in ("results", "model")},
            "kinds": rows,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    ratios = {
        damping: median(row["measured"] / row["formula"] for row in rows if row["damping"] == damping)
        for damping in dict.fromkeys(row["damping"] for row in rows)
    }
    print(" ".join(f"measured_by_formula_{damping:g}={ratio:.3f}" for damping, ratio in ratios.items()))


def measure(arguments: argparse.Namespace) -> list[Row]:
    """All rows of the table, one for each damping and kind of layer."""
    domains = arguments.domains.split(",")
    loaded = load_model(ModelSource(arguments.model or find_model(domains), dtype="float32", device="cpu"))
    dampings = [float(damping) for damping in arguments.dampings.split(",")]
    found: dict[float, list[tuple[str, NoiseEdge]]] = {damping: [] for damping in dampings}
    for name in domains:
        sizes = {"length": arguments.length, "selection": 1, "test": 1, "needed": arguments.examples + 1}
        examples, _ = load_domain(name, loaded.tokenizer, **sizes).draw(arguments.examples, 1, arguments.seed)
        samples = collect_samples(loaded.model, examples, 1, arguments.seed)
        for damping in dampings:
            edges = measure_noise(loaded.model, examples, samples, damping, arguments.partitions, arguments.seed)
            found[damping] += edges.items()
    return [row for damping, edges in found.items() for row in summarise(damping, edges)]


def summarise(damping: float, edges: Sequence[tuple[str, NoiseEdge]]) -> list[Row]:
    """One row for each kind of layer, which is the last part of a layer's name."""
    kinds: Mapping[str, list[NoiseEdge]] = defaultdict(list)
    for name, edge in edges:
        kinds[name.rpartition(".")[2]].append(edge)
    return [
        {
            "damping": damping,
            "kind": kind,
            "formula": median(edge.formula for edge in own),
            "measured": median(edge.median for edge in own),
            "highest": median(edge.highest for edge in own),
            "largest": median(float(edge.singular_values[0]) for edge in own),
            "directions": mean(len(edge.singular_values) for edge in own),
            "real_by_formula": mean(edge.count_above(edge.formula) for edge in own),
            "real_by_halves": mean(edge.count_above(edge.highest) for edge in own),
        }
        for kind, own in kinds.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| layers | edge by formula | by halves | largest σ of Ĝ | directions | real by formula | by halves |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        halves = f"{row['measured']:.2f} to {row['highest']:.2f}"
        counts = f"{row['directions']:.0f} | {row['real_by_formula']:.1f} | {row['real_by_halves']:.1f}"
        lines.append(f"| {row['kind']} | {row['formula']:.2f} | {halves} | {row['largest']:.2f} | {counts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
