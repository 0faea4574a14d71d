"""Where training starts: LoRA's own start, LoRA-DA's with B = 0, and with the step that it searches for.

    LORA_DA_DATA=<data folder> python benchmarks/starts.py --results results/starts

stories260K is trained as the laboratory trains it (150 steps of 8 blocks of 128 tokens, AdamW at a constant rate, alpha
2r), here from adapters as the library makes them. For one seed all starts have the same calibration and training
blocks. Each finished run is a line of ``runs.jsonl``, and the same command goes on where it was stopped. The table has
each arm's mean test loss in nats per token at the rate of its least selection loss, ^ or v where that is the grid's
highest or lowest.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from lora_da import LoraDAConfig, freeze_a, initialize_lora_da_weights
from lora_da.loading import ModelSource, load_model
from lora_da.system.files import write_text
from lora_da_bench.laboratory.domains import Domain, find_model, load_domain
from lora_da_bench.laboratory.settings import Settings
from lora_da_bench.laboratory.training import measure_blocks, train_adapter
from lora_da_bench.running.provenance import describe_machine, find_versions

SETTINGS = Settings()
MOST_EXAMPLES = 512  # of a calibration sample; smaller ones are its first blocks, so that training never differs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", default="lora,zero,searched", help="lora, or an init_scale")
    parser.add_argument("--domains", default="gsm8k,wikitext")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--learning-rates", default="1.25e-3,2.5e-3,5e-3,1e-2,2e-2")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--examples", default="64", help="calibration blocks, at most 512")
    parser.add_argument("--train", default="both", choices=("both", "b"), help="both factors, or B alone")
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.results / "runs.jsonl"
    arguments.results.mkdir(parents=True, exist_ok=True)
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    base = load_model(ModelSource(str(find_model()), dtype="float32", device="cpu"))
    domains = {name: load_domain_of(name, base.tokenizer) for name in arguments.domains.split(",")}
    asked = [
        dict(zip(("seed", "domain", "learning_rate", "start", "examples", "train", "rank"), values, strict=True))
        for values in itertools.product(
            numbers(arguments.seeds, int),
            domains,
            numbers(arguments.learning_rates, float),
            arguments.starts.split(","),
            numbers(arguments.examples, int),
            (arguments.train,),
            (arguments.rank,),
        )
    ]
    done = {json.dumps(run["run"]) for run in runs}
    for run in asked:
        if json.dumps(run) in done:
            continue
        runs.append({"run": run} | carry_out(base.model, domains, **run))
        with path.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": describe_machine(),
        "versions": find_versions(),
        "table": tabulate([run for run in runs if run["run"] in asked], numbers(arguments.learning_rates, float)),
    }
    write_text(arguments.results / f"{name_of(arguments)}.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print("\n".join(about["table"]))


def name_of(arguments: argparse.Namespace) -> str:
    """The name of the file of a grid's table."""
    return f"train-{arguments.train}-r{arguments.rank}-examples-{arguments.examples.replace(',', '-')}"


def numbers(text: str, kind: type) -> list[Any]:
    return [kind(part) for part in text.split(",")]


def load_domain_of(name: str, tokenizer: Any) -> Domain:
    return load_domain(
        name,
        tokenizer,
        length=SETTINGS.length,
        selection=SETTINGS.selection_blocks,
        test=SETTINGS.test_blocks,
        needed=MOST_EXAMPLES + SETTINGS.batch_size,
    )


def carry_out(
    base: Any,
    domains: Mapping[str, Domain],
    *,
    seed: int,
    domain: str,
    learning_rate: float,
    start: str,
    examples: int,
    train: str,
    rank: int,
) -> dict[str, Any]:
    """One run: its losses, and what the initialisation reports."""
    text = domains[domain]
    calibration, training = text.draw(MOST_EXAMPLES, SETTINGS.training_blocks, seed)
    torch.manual_seed(seed)
    shape = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(base), shape)
    found: dict[str, Any] = {}
    if start != "lora":
        config = LoraDAConfig(init_scale=start, population_size=SETTINGS.training_blocks, seed=seed)  # type: ignore[arg-type]
        batches = [{"input_ids": part, "labels": part} for part in calibration[:examples].split(8)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = initialize_lora_da_weights(
                model, batches, config, max_examples=examples, measure_loss=False, progress=False
            )
        found["step_length"] = report.step_length
    if train == "b":
        freeze_a(model)
    found["start_loss"] = fmean(measure_blocks(model, text.test))
    batches = training.unflatten(0, (SETTINGS.steps, -1))
    if train_adapter(model, batches, learning_rate) is None:
        return found | {"selection_loss": None, "test_loss": None}
    return found | {
        "selection_loss": fmean(measure_blocks(model, text.selection)),
        "test_loss": fmean(measure_blocks(model, text.test)),
    }


def tabulate(runs: list[dict[str, Any]], rates: list[float]) -> list[str]:
    """A line for each domain and arm, over the seeds that have all rates."""
    lines = []
    for domain, start, examples in sorted({key(run, "domain", "start", "examples") for run in runs}):
        own = [run for run in runs if key(run, "domain", "start", "examples") == (domain, start, examples)]
        by_rate = {rate: [run for run in own if run["run"]["learning_rate"] == rate] for rate in rates}
        means = {rate: mean(run["selection_loss"] for run in found) for rate, found in by_rate.items()}
        best = min(means, key=lambda rate: means[rate])
        tests = [run["test_loss"] for run in by_rate[best]]
        edge = "" if len(rates) == 1 else {min(rates): "v", max(rates): "^"}.get(best, "")
        each = " ".join(f"{loss:.4f}" for loss in tests if loss is not None)
        lines.append(f"{domain} {start} {examples} examples: {mean(tests):.4f} @{best:g}{edge} (seeds: {each})")
    return lines


def key(run: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(run["run"][name] for name in names)


def mean(losses: Iterable[float | None]) -> float:
    """The mean; infinite if one diverged or there is none."""
    found = list(losses)
    finite = [loss for loss in found if loss is not None]
    return fmean(finite) if finite and len(finite) == len(found) else float("inf")


if __name__ == "__main__":
    main()
