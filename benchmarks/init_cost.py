"""What an initialisation costs, beside plain passes over the same examples.

    LORA_DA_DATA=<data folder> python benchmarks/init_cost.py --examples 64 --results results/init-cost

Three things are measured in turn, each in a process of its own after one warm-up batch: the initialisation (collect and
solve all layers; the optional loss pass after it is
timed apart), one forward and backward pass with weight gradients on the adapted
layers (what a gradient-based init costs at least), and one with every parameter frozen. Peak memory is the process's
largest resident set after the model was loaded. The last line of the output can be read by a script.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from peft import get_peft_model

from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da.adapter.layers import adapted_layers, adapters_disabled, base_model_of
from lora_da.experiments.data import Columns
from lora_da.experiments.models import convert_gguf, find_smollm2
from lora_da.experiments.sources import AdapterShape, DataSource, ModelSource, batches_of, calibration_sample
from lora_da.files import write_text
from lora_da.report import machine, versions
from lora_da.statistics.losses import example_losses

MEASURES = ("init", "full_gradient", "frozen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, or a local folder")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured; the fastest counts")
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return

    with tempfile.TemporaryDirectory() as folder:
        if arguments.model == "smollm2":
            arguments.model = str(convert_gguf(find_smollm2(), Path(folder) / "smollm2"))
        found = {name: best_of(arguments, name) for name in MEASURES}
    init, full, frozen = (found[name] for name in MEASURES)
    figures = {
        "ratio_full_gradient": init["seconds"] / full["seconds"],
        "ratio_frozen": init["seconds"] / frozen["seconds"],
        "ratio_frozen_with_loss": init["seconds_with_loss"] / frozen["seconds"],
        "solve_share": init["solve_seconds"] / init["seconds"],
        "memory_ratio_frozen": init["peak_bytes"] / frozen["peak_bytes"],
        "memory_ratio_full_gradient": init["peak_bytes"] / full["peak_bytes"],
        # The frozen pass holds the model and one batch's activations; the sums come on top of it.
        "peak_memory_ratio": init["peak_bytes"] / (frozen["peak_bytes"] + init["statistics_bytes"]),
    }
    print(f"{'':15s} {'seconds':>8s} {'peak memory':>12s}")
    for name, row in found.items():
        print(f"{name:15s} {row['seconds']:8.1f} {row['peak_bytes'] / 2**30:8.2f} GiB")
    if arguments.results:
        about = {
            "command": shlex.join(["python", *sys.argv]),
            "model": "SmolLM2-135M-Instruct" if "smollm2" in arguments.model else Path(arguments.model).name,
            "data": f"GSM8K train, {arguments.examples} examples, batches of {arguments.batch_size}",
            "machine": machine(),
            "date": date.today().isoformat(),
            "versions": versions(),
            "measured": found,
            "figures": figures,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


def best_of(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """The fastest of some measurements, each in a fresh process."""
    command = [sys.executable, __file__, "--measure", name, "--model", arguments.model, "--dtype", arguments.dtype]
    command += ["--examples", str(arguments.examples), "--batch-size", str(arguments.batch_size)]
    command += ["--rank", str(arguments.rank)]
    rows = []
    for _ in range(arguments.repeats):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
    return min(rows, key=lambda row: float(row["seconds"]))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in this process."""
    data = Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl"
    source = DataSource(str(data), columns=Columns(prompt="question", completion="answer"))
    rows = calibration_sample(source.rows(), arguments.examples, seed=0)
    loaded = ModelSource(arguments.model, dtype=arguments.dtype).load(Path(arguments.model))
    examples = source.tokenized(rows, loaded.tokenizer)
    batches = list(batches_of(examples, loaded.tokenizer, arguments.batch_size))
    model = get_peft_model(loaded.model, AdapterShape(rank=arguments.rank).lora_config())
    config = LoraDAConfig(population_size=7473)

    if arguments.measure == "init":
        initialize_lora_da_weights(model, batches[:1], config, measure_loss=False, progress=False)
        reset_peak()
        report = initialize_lora_da_weights(model, batches, config, progress=False)
        weights = [(layer.B.shape[0], layer.A.shape[1]) for layer in adapted_layers(model, "default")[0].values()]
        # q, k and v share an input, and so do gate and up: four input factors a block of seven linear layers.
        inputs = {name: shape[1] for name, shape in zip(report.layers, weights, strict=True)}
        shared = [width for name, width in inputs.items() if not re.search(r"(k|v|up)_proj$", name)]
        sums = sum(d_out * d_in + d_out for d_out, d_in in weights) + sum(width**2 for width in shared)
        seconds = report.seconds["statistics"] + report.seconds["solve"]
        return {
            "seconds": seconds,
            "seconds_with_loss": sum(report.seconds.values()),
            "collect_seconds": report.seconds["statistics"],
            "solve_seconds": report.seconds["solve"],
            "peak_bytes": peak(),
            "statistics_bytes": 4 * sums,
        }

    base = base_model_of(model)
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    if arguments.measure == "frozen":
        base.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
    base.eval()
    with adapters_disabled(base):
        if arguments.measure == "full_gradient":
            for layer in adapted_layers(model, "default")[0].values():
                layer.base.weight.requires_grad_(True)
        plain_pass(base, batches[:1])
        reset_peak()
        started = time.perf_counter()
        plain_pass(base, batches)
        return {"seconds": time.perf_counter() - started, "peak_bytes": peak()}


def plain_pass(model: Any, batches: list[Any]) -> None:
    """One forward and one backward pass a batch, with the loss that the initialisation uses."""
    for batch in batches:
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        example_losses(logits, batch["labels"], "shifted", "sum").sum().backward()


def reset_peak() -> None:
    """Forget the largest resident set so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The largest resident set since, in bytes."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
