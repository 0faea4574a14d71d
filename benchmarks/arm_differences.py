"""Arms of the laboratory that lie in different folders, or have different ranks or rates, against each other.

    python benchmarks/arm_differences.py --pair FOLDER,ARM,RANK,RATE FOLDER,ARM,RANK,RATE --results results/NAME

An arm is such as results/laboratory/r8-fresh,default_frozen,8,5e-3. Of each pair are told the means over the texts and
seeds that both have, and the first one's difference to the second, paired by seed and test block: 95 % intervals over
both, as in the bench's comparisons, that hold for all pairs of one call at once. The last line can be read by a script.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from about_run import describe_run
from lora_da.system.files import write_text
from lora_da_bench.analysis.significance import Array, estimate_difference
from lora_da_bench.laboratory.runs import load_records
from lora_da_bench.laboratory.settings import RECORDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs=2, action="append", required=True, metavar="FOLDER,ARM,RANK,RATE")
    parser.add_argument("--results", type=Path, required=True, help="folder of results.json")
    arguments = parser.parse_args()
    rows = [compare(first, second, len(arguments.pair)) for first, second in arguments.pair]
    for row in rows:
        print(f"{row['first']}  {row['mean_first']:.4f}\n{row['second']}  {row['mean_second']:.4f}")
        print(f"  difference {row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}], seeds {row['seeds']}")
    about = {**describe_run(), "pairs": rows}
    write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"pair{number}={row['mean']:.4f}" for number, row in enumerate(rows, 1)))


def compare(first: str, second: str, comparisons: int) -> dict[str, Any]:
    """One pair, over the texts and seeds that both have."""
    mine, theirs = losses_of(first), losses_of(second)
    both = mine.keys() & theirs.keys()
    domains = sorted({domain for domain, _ in both})
    seeds = sorted({seed for _, seed in both if all((domain, seed) in both for domain in domains)})
    if len(seeds) < 2:
        raise SystemExit(f"{first} and {second} have seeds {seeds} in common: two are needed for an interval")
    parts = [[stack(arm, domain, seeds) for domain in domains] for arm in (mine, theirs)]
    own, other = (np.concatenate(arm, axis=1) for arm in parts)
    found = estimate_difference(own - other, comparisons=comparisons)
    return {
        "first": first,
        "second": second,
        "domains": domains,
        "seeds": seeds,
        "mean_first": float(np.mean(parts[0])),
        "mean_second": float(np.mean(parts[1])),
        "by_domain": {name: float(np.mean(a) - np.mean(b)) for name, a, b in zip(domains, *parts, strict=True)},
        **asdict(found),
    }


def losses_of(arm: str) -> dict[tuple[str, int], tuple[float, ...]]:
    """The losses of an arm's test blocks, by domain and seed."""
    folder, name, rank, rate = arm.split(",")
    records = load_records(Path(folder) / RECORDS)
    found = {
        (run.domain, run.seed): record.test_losses
        for run, record in records.items()
        if (run.arm, run.rank, run.learning_rate) == (name, int(rank), float(rate))
    }
    if not found:
        raise SystemExit(f"{folder} has no run of {name} at rank {rank} and rate {rate}")
    return found


def stack(losses: dict[tuple[str, int], tuple[float, ...]], domain: str, seeds: list[int]) -> Array:
    """The losses (S, I) of some seeds on one text."""
    return np.array([losses[domain, seed] for seed in seeds])


if __name__ == "__main__":
    main()
