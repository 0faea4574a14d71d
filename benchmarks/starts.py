"""How many calibration examples are enough, and what ranks from the data are worth, by the laboratory's training runs.

    LORA_DA_DATA=<data folder> python benchmarks/starts.py examples --results results/sample-size
    LORA_DA_DATA=<data folder> python benchmarks/starts.py ranks --results results/rank-budget

On the laboratory's tiny language model and four texts, with its splits, steps and batches. ``examples`` starts from the
first 8 to 512 of one sample, at rank 4. ``ranks`` takes 64 examples and gives every layer the same rank, or the layers
ranks that come to as many parameters (``choose_ranks`` with a budget), all at one scaling. A is frozen, or trained as
well; each has the learning rate that was best for the library's default in results/laboratory. Beside the test loss
stand the step's length, and how alike the whitened gradients of the two halves of the examples are: the cosine between
them, over all layers.

Every run is a line of runs.jsonl; the same command goes on where it was stopped. The last line of the output can be
read by a script.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from about_run import describe_run
from lora_da import LoraDAConfig, Statistics, choose_ranks, collect_statistics, initialize_lora_da_weights
from lora_da.loading import ModelSource, load_model
from lora_da.solver.factors import in_float64
from lora_da.solver.layer import factorise_input, invert_output_factor
from lora_da.solver.loss_metric import whiten
from lora_da.system.files import write_text
from lora_da_bench.laboratory.data.domains import Domain, find_model, load_domain
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.settings import Settings
from lora_da_bench.laboratory.training import measure_examples, start_adapter, train_adapter

DOMAINS = ("gsm8k", "wikitext", "arc-easy", "shakespeare")
RATES = {False: 1e-2, True: 5e-3}  # by whether A is trained
MOST = 512
BATCH = 8
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("examples", "ranks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--arms", nargs="+", choices=("frozen", "trained"), default=["frozen", "trained"], help="A")
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--results", type=Path, required=True, help="folder of the runs and of results.json")
    arguments = parser.parse_args()
    model = load_model(ModelSource(find_model(arguments.domains), dtype="float32", device="cpu"))
    model.model.config.use_cache = False
    domains = {name: load(name, model.tokenizer) for name in arguments.domains}
    done = carry_out_missing(
        runs(arguments), lambda run: carry_out(model.model, domains[run["domain"]], run), arguments.results
    )
    rows = summarise(done)
    print(table(rows))
    about = {
        **describe_run(),
        "settings": vars(Settings()) | {"learning rates": {"frozen": RATES[False], "trained": RATES[True]}},
        "means": rows,
    }
    write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{row['name']}={row['loss']:.3f}" for row in rows))


def carry_out_missing(wanted: Iterable[Run], carry_out: Callable[[Run], Run], folder: Path) -> list[Run]:
    """Carry out what the folder's runs.jsonl does not hold yet, a line each, and return all that it holds then."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "runs.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for run in wanted:
        if any(run.items() <= other.items() for other in done):
            continue
        done.append(run | carry_out(run))
        with file.open("a") as stream:
            stream.write(json.dumps(done[-1]) + "\n")
        told = {name: value for name, value in done[-1].items() if not isinstance(value, dict | list)}
        print(told, file=sys.stderr, flush=True)
    return done


def runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """All runs of a question."""
    if arguments.question == "examples":
        variants = [{"examples": 2**power, "rank": 4, "own": False} for power in range(3, 10)]
    else:
        variants = [{"examples": 64, "rank": rank, "own": own} for rank in (2, 4, 8) for own in (False, True)]
    for seed, arm, domain, variant in product(arguments.seeds, arguments.arms, arguments.domains, variants):
        yield {"seed": seed, "train_a": arm == "trained", "domain": domain} | variant


def load(name: str, tokenizer: Any) -> Domain:
    """A text, parted as the laboratory does."""
    own = Settings()
    needed = MOST + own.batch_size
    return load_domain(
        name, tokenizer, length=own.length, selection=own.selection_blocks, test=own.test_blocks, needed=needed
    )


def carry_out(base: Any, domain: Domain, run: Run) -> Run:
    """Initialise, train and measure one adapter."""
    own = Settings()
    calibration, training = domain.draw(MOST, own.training_blocks, run["seed"])
    sample = calibration[: run["examples"]]
    config = LoraDAConfig(population_size=min(len(training), len(domain.pool) - MOST), seed=run["seed"])
    halves = sample[: len(sample) // 2], sample[len(sample) // 2 :]
    first, second = (collect(base, half, config) for half in halves)
    ranks = choose_ranks(first + second, config, budget=run["rank"], progress=False) if run["own"] else {}
    lora = LoraConfig(
        r=run["rank"],
        lora_alpha=own.alpha_per_rank * run["rank"],
        rank_pattern=ranks,
        alpha_pattern={name: own.alpha_per_rank * rank for name, rank in ranks.items()},
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(copy.deepcopy(base), lora)
    start_adapter(model, None, run["seed"], train_a=run["train_a"])
    with warnings.catch_warnings():  # it says that so few tokens leave much to damping
        warnings.simplefilter("ignore")
        report = initialize_lora_da_weights(
            model, batches(sample), config, max_examples=len(sample), measure_loss=False, progress=False
        )
    train_adapter(model, training, own.batch_size, RATES[run["train_a"]])
    return {
        "test_loss": mean(measure_examples(model, domain.test)),
        "step_length": report.step_length,
        "agreement": agreement(first, second, config),
        "ranks": ranks,
    }


def batches(examples: Examples) -> list[dict[str, torch.Tensor]]:
    """What the library reads."""
    return [part.batch() for part in examples.split(BATCH)]


def collect(base: Any, examples: Examples, config: LoraDAConfig) -> Statistics:
    """Statistics of all layers but the head, as adapters have them."""
    statistics = collect_statistics(
        get_peft_model(copy.deepcopy(base), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")),
        batches(examples),
        config.collection,
        max_examples=len(examples),
        progress=False,
    )
    assert isinstance(statistics, Statistics)
    return statistics


def agreement(first: Statistics, second: Statistics, config: LoraDAConfig) -> float:
    """The cosine between the whitened gradients of two halves, in the coordinates of both together."""
    both = first + second
    inner, sizes = 0.0, [0.0, 0.0]
    for name in both.layers:
        layer = both[name]
        factor, output = factorise_input(layer, config), invert_output_factor(layer, config)
        G1, G2 = (
            in_float64(whiten(half[name].gradient_sum / half.examples, output.inverse, factor, 1.0))
            for half in (first, second)
        )
        inner += float((G1 * G2).sum())
        sizes = [sizes[0] + float(G1.square().sum()), sizes[1] + float(G2.square().sum())]
    return float(inner / (sizes[0] * sizes[1]) ** 0.5)


def summarise(done: list[Run]) -> Sequence[Mapping[str, Any]]:
    """Means over texts and seeds, of the variants that all of these have."""
    rows: list[Mapping[str, Any]] = []
    for key in sorted({(run["train_a"], run["rank"], run["own"], run["examples"]) for run in done}):
        own = [run for run in done if (run["train_a"], run["rank"], run["own"], run["examples"]) == key]
        trained, rank, ranks, examples = key
        name = f"{'trained' if trained else 'frozen'}_r{rank}{'_own' if ranks else ''}_{examples}"
        figures = {part: mean(run[part] for run in own) for part in ("step_length", "agreement")}
        rows.append({"name": name, "runs": len(own), "loss": mean(run["test_loss"] for run in own)} | figures)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| start | runs | test loss | step | halves agree |", "|---|---|---|---|---|"]
    for row in rows:
        figures = f"{row['loss']:.3f} | {row['step_length']:.3f} | {row['agreement']:.2f}"
        lines.append(f"| {row['name']} | {row['runs']} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
