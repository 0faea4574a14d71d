"""Few training examples read many times, and what is forgotten meanwhile, by the laboratory's training runs.

    LORA_DA_DATA=<data folder> python benchmarks/scarce.py --results results/scarce

On the laboratory's tiny language model at rank 4: 64 or 256 blocks of a text for 150 steps of 8 (19 or 5 epochs), and
the start from 64 of the same blocks. Before training and after every 15 steps are measured the losses of the text's
selection and test splits, and of blocks that the base model itself wrote, drawn token by token: what these rise by is
the Kullback-Leibler divergence from the base model, which stands for what was forgotten. Frozen and trained arms have
the learning rates that the laboratory's screen selected. Told are means over texts and seeds of

- ``best``, the test loss where the selection loss is lowest (early stopping), and the ``step`` at which that is;
- ``end``, the test loss after all steps;
- ``forgotten``, when the selection loss is first as low as all arms with the same blocks get: at equal task loss; and
  ``forgotten at the best``.

Every run is a line of runs.jsonl; the same command goes on where it was stopped. The last line of the output can be
read by a script.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from about_run import describe_run
from lora_da.loading import ModelSource, load_model
from lora_da.system.files import write_text
from lora_da_bench.laboratory.data.domains import Domain, find_model
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.sample import collect_samples
from lora_da_bench.laboratory.estimators.scale import whiten_outputs
from lora_da_bench.laboratory.estimators.subspaces import SUBSPACES
from lora_da_bench.laboratory.library_start import start_by_library
from lora_da_bench.laboratory.runs import DEFAULT, VANILLA
from lora_da_bench.laboratory.settings import Settings
from lora_da_bench.laboratory.training import measure_examples, start_adapter, train_adapter
from starts import RATES, carry_out_missing, load

DOMAINS = ("gsm8k", "shakespeare")
ARMS = ((VANILLA, True), (DEFAULT, True), ("random", False), ("eva", False), (DEFAULT, False))
"""The method, and whether A is trained."""

SIZES = (64, 256)
RANK = 4
EVERY = 15  # steps
OWN_BLOCKS = 64  # that the base model writes
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="training blocks")
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--results", type=Path, required=True, help="folder of the runs and of results.json")
    arguments = parser.parse_args()
    loaded = load_model(ModelSource(find_model(arguments.domains), dtype="float32", device="cpu"))
    own = write_blocks(loaded.model, Settings().length)
    loaded.model.config.use_cache = False
    domains = {name: load(name, loaded.tokenizer) for name in arguments.domains}
    wanted = (
        {"seed": seed, "domain": domain, "size": size, "method": method, "train_a": train_a}
        for seed, domain, size, (method, train_a) in product(arguments.seeds, domains, arguments.sizes, ARMS)
    )

    def train(run: Run) -> Run:
        return {"curve": carry_out(loaded.model, domains[run["domain"]], own, run, arguments.steps)}

    done = carry_out_missing(wanted, train, arguments.results)
    rows = summarise(done)
    print(table(rows))
    about = {**describe_run(), "settings": vars(Settings()) | {"rank": RANK, "steps": arguments.steps}, "means": rows}
    write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{row['name']}={row['best']:.3f}" for row in rows))


@torch.no_grad()
def write_blocks(model: Any, length: int) -> Examples:
    """Blocks that the base model writes by itself."""
    start = torch.full((OWN_BLOCKS, 1), int(model.config.bos_token_id))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids: Tensor = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            top_k=0,
            min_new_tokens=length - 1,
            max_new_tokens=length - 1,
            pad_token_id=int(model.config.bos_token_id),
        )
    return Examples(ids, torch.ones_like(ids))


def carry_out(base: Any, domain: Domain, own: Examples, run: Run, steps: int) -> list[Run]:
    """Train one adapter, and measure it on the way."""
    settings = Settings()
    generator = torch.Generator().manual_seed(run["seed"])
    few = domain.pool[torch.randperm(len(domain.pool), generator=generator)[: run["size"]]]
    reads = steps * settings.batch_size
    order = torch.cat([torch.randperm(len(few), generator=generator) for _ in range(-(-reads // len(few)))])[:reads]
    calibration = few[: settings.calibration_blocks]
    lora = LoraConfig(
        r=RANK, lora_alpha=settings.alpha_per_rank * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model: Any = get_peft_model(copy.deepcopy(base), lora)
    start_adapter(model, rows_of(run, base, calibration, len(few)), run["seed"], train_a=run["train_a"])
    if run["method"] == DEFAULT:
        start_by_library(model, calibration, len(few), run["seed"])
    curve: list[Run] = []

    def measure(step: int) -> None:
        if step % EVERY == 0:
            parts = {"selection": domain.selection, "test": domain.test, "own": own}
            losses = {name: mean(measure_examples(model, part)) for name, part in parts.items()}
            curve.append({"step": step} | losses)

    with model.disable_adapter():
        before = mean(measure_examples(model, own))
    measure(0)
    if train_adapter(model, few[order], settings.batch_size, RATES[run["train_a"]], measure) is None:
        raise ArithmeticError(f"training diverged: {run}")
    return [point | {"forgotten": point["own"] - before} for point in curve]


def rows_of(run: Run, base: Any, calibration: Examples, population: int) -> dict[str, Tensor] | None:
    """The rows of A of a subspace's arm."""
    if run["method"] not in SUBSPACES:
        return None
    samples = collect_samples(base, calibration, population, run["seed"])
    subspace = SUBSPACES[run["method"]]
    return {name: whiten_outputs(subspace.rows(found, RANK), found.input_factor) for name, found in samples.items()}


def forgotten_at(curve: Sequence[Run], loss: float) -> float:
    """What is forgotten where the selection loss first falls to a value, between two measurements in proportion."""
    if curve[0]["selection"] <= loss:
        return float(curve[0]["forgotten"])
    for one, two in pairwise(curve):
        if two["selection"] <= loss:
            part = (one["selection"] - loss) / (one["selection"] - two["selection"])
            return float(one["forgotten"] + part * (two["forgotten"] - one["forgotten"]))
    raise ValueError(f"the loss never falls to {loss}")


def summarise(done: Sequence[Run]) -> list[Run]:
    """Means over texts and seeds of each arm and size, of those that all arms have."""
    groups: dict[tuple[Any, ...], dict[tuple[str, bool], list[Run]]] = defaultdict(dict)
    for run in done:
        groups[run["size"], run["domain"], run["seed"]][run["method"], run["train_a"]] = run["curve"]
    found: dict[tuple[int, str, bool], list[Run]] = defaultdict(list)
    for (size, *_), curves in groups.items():
        if len(curves) < len(ARMS):
            continue
        common = max(min(point["selection"] for point in curve) for curve in curves.values())
        for (method, train_a), curve in curves.items():
            best = min(curve, key=lambda point: point["selection"])
            figures = {"best": best["test"], "step": best["step"], "end": curve[-1]["test"]}
            figures |= {"forgotten": forgotten_at(curve, common), "forgotten at the best": best["forgotten"]}
            found[size, method, train_a].append(figures)
    return [
        {
            "name": f"{method}_{'trained' if train_a else 'frozen'}_{size}",
            "runs": len(figures),
            **{name: mean(one[name] for one in figures) for name in figures[0]},
        }
        for (size, method, train_a), figures in found.items()
    ]


def table(rows: Sequence[Run]) -> str:
    """The rows as Markdown."""
    lines = [
        "| arm, blocks | runs | best | step | end | forgotten | forgotten at the best |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [f"{row[name]:.3f}" for name in ("best", "end", "forgotten", "forgotten at the best")]
        figures.insert(1, f"{row['step']:.0f}")
        lines.append("| " + " | ".join([row["name"], str(row["runs"]), *figures]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
