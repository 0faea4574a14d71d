"""How many calibration examples does LoRA-DA need: how much do its subspaces and its results move with the sample?

For each size, two disjoint samples give two subspaces for every layer; printed is their overlap ‖A₁A₂ᵀ‖²/r (1: equal;
r/d_in: unrelated) and the median of the largest principal angles. Then LoRA-DA is trained from samples of each size.
The statistics of each size and the finished training runs are kept, so that the benchmark can be stopped and started.

    LORA_DA_DATA=... python benchmarks/calibration_size.py --work build/calibration --results results/calibration-size
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import statistics as numbers
import sys
import time
from pathlib import Path
from typing import Any

from agreement import solved, subspace_agreement
from lora_da import LoraDAConfig, Statistics, collect_statistics, load_statistics, save_statistics
from lora_da.report.initialization import machine, versions
from lora_da.system.files import write_text
from lora_da_bench.experiment.description import Experiment, load_experiment
from lora_da_bench.experiment.record import Run, load_records
from lora_da_bench.experiment.splits import load_splits
from lora_da_bench.running.sampling import draw_calibration
from lora_da_bench.running.training_run import carry_out_run, load_base
from lora_da_bench.tasks.registry import make_task

CONFIG = Path(__file__).parents[1] / "configs" / "gsm8k-smollm2.toml"
RANK = 8


def collected(experiment: Experiment, sizes: list[int], work: Path) -> dict[tuple[int, int], Statistics]:
    """Statistics of two disjoint samples of each size; a larger sample holds the smaller ones."""
    task = make_task(experiment.task.kind, experiment.task.options)
    rows = load_splits(experiment.task).train
    config = LoraDAConfig().collection
    drawn = draw_calibration(len(rows), 2 * max(sizes), seed=0)
    samples = [drawn[0::2], drawn[1::2]]
    found: dict[tuple[int, int], Statistics] = {}
    loaded = None
    for sample, indices in enumerate(samples):
        before: Statistics | None = None
        done = 0
        for size in sizes:
            file = work / f"sample{sample}-{size}.safetensors"
            if file.is_file():
                total = load_statistics(file)
            else:
                loaded = loaded or load_base(experiment.model, task, work / "model")
                examples = task.encode(rows.select(indices[done:size]), loaded.tokenizer)
                part = collect_statistics(loaded.model, examples.batches(8), config, max_examples=len(examples))
                total = part if before is None else before + part
                save_statistics(total, file)
            found[size, sample] = before = total
            done = size
    return {key: dataclasses.replace(value, population_size=len(rows)) for key, value in found.items()}


def trained(experiment: Experiment, sizes: list[int], learning_rate: float, work: Path) -> dict[int, list[float]]:
    """Test losses of LoRA-DA by size, one for each fresh seed."""
    losses: dict[int, list[float]] = {}
    for size in sizes:
        calibration = experiment.calibration.model_copy(update={"examples": size})
        sized = experiment.model_copy(update={"calibration": calibration, "forgetting": None})
        folder = work / f"runs-{size}"
        done = {record.run: record for record in load_records(folder)}
        for seed in experiment.protocol.fresh_seeds:
            steps = experiment.protocol.steps
            run = Run("final", "lora-da", RANK, learning_rate, seed, steps, selected_step=steps)
            if run not in done:
                done[run] = carry_out_run(run, sized, work)
                done[run].save(folder)
            losses.setdefault(size, []).append(done[run].curve[-1].test_loss or float("nan"))
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="the experiment whose model, data and steps are used"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the training runs")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is kept between calls")
    parser.add_argument("--results", type=Path, required=True, help="folder for results.json")
    options = parser.parse_args()
    experiment, sizes = load_experiment(options.config), sorted(options.sizes)
    options.work.mkdir(parents=True, exist_ok=True)
    statistics = collected(experiment, sizes, options.work)
    found = {key: solved(value, RANK) for key, value in statistics.items()}
    reference = {sample: found[sizes[-1], 1 - sample] for sample in (0, 1)}
    losses = trained(experiment, sizes, options.learning_rate, options.work)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows.append(
            {
                "examples": size,
                "disjoint_samples": subspace_agreement(found[size, 0], found[size, 1]),
                "with_largest_other_sample": subspace_agreement(found[size, 0], reference[0]),
                "test_losses": losses[size],
                "test_loss_mean": numbers.mean(losses[size]),
            }
        )
        print(json.dumps(rows[-1]))
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "model": experiment.model.name,
        "rank": RANK,
        "layers": len(found[sizes[0], 0]),
        "unrelated_overlap": numbers.median(RANK / init.A.shape[1] for init in found[sizes[0], 0].values()),
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "rows": rows,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write_text(options.results / "results.json", json.dumps(content, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
