"""What an initialisation costs, beside plain passes over the same examples.

    LORA_DA_DATA=<data folder> python benchmarks/init_cost.py --examples 64 --results results/init-cost

Each thing is measured in a process of its own: the initialisation (collect and solve all layers; the search for the
step's length and the optional loss pass after it are timed apart), one forward and backward pass with weight gradients
on the adapted layers (what a gradient-based init costs at least), one with every parameter frozen, all after one
warm-up batch; and with
``--methods`` what other initialisations do before training. ``--other MODULE:FUNCTION`` times one more: a function of
(model, batches), with a plain model of transformers. Peak memory is the process's largest resident set after the model
was loaded. The last line of the output can be read by a script; in it

- ``ratio_full_gradient`` is beside a plain pass, which makes the logits of all positions; ``ratio_by_parts`` beside one
  that makes them as the initialisation does, where a label is predicted;
- ``peak_memory_ratio`` is the initialisation's peak over model, sums and one batch's activations, the adapted layers'
  inputs among them, as a pass with weight gradients keeps them: that pass's peak, less its gradients, and the sums;
- ``peak_memory_ratio_frozen`` is the same over the frozen pass, which does not keep the inputs, and the sums;
- figures of further ranks have the rank behind them: ``solve_share_r64``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft import get_peft_model

from about_run import describe_run
from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da.adapter.activation import adapters_disabled
from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.wrapping import find_base_model
from lora_da.loading import ModelSource, RowFormat, convert_gguf, find_model, load_model
from lora_da.losses import CausalLM
from lora_da.pipeline.memory_plan import sums_bytes
from lora_da.statistics.losses.chunked import HiddenStates, compute_chunked_losses
from lora_da.statistics.losses.objective import Objective
from lora_da.statistics.shared_inputs import find_shared_inputs
from lora_da.system.files import write_text
from lora_da.workflows.calibration_sample import read_sample
from lora_da.workflows.settings import AdapterShape, Calibration
from lora_da_bench.methods.method import Setup
from lora_da_bench.methods.registry import get_method

MEASURES = ("init", "full_gradient", "by_parts", "frozen")
METHODS = ("eva", "corda", "lora-ga-peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, or a local folder")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rank", type=int, nargs="+", default=[8], help="of the adapter; of several the first is main")
    parser.add_argument("--methods", nargs="*", default=[], help=f"other initialisations: {', '.join(METHODS)}, …")
    parser.add_argument("--other", metavar="MODULE:FUNCTION", help="one more, a function of (model, batches)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured; the fastest counts")
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return

    with tempfile.TemporaryDirectory() as folder:
        if arguments.model == "smollm2":
            arguments.model = str(convert_gguf(Path(find_model("smollm2")), Path(folder) / "smollm2"))
        rank, *more = arguments.rank
        found = {name: best_of(arguments, name, rank) for name in MEASURES}
        found |= {f"init_r{other}": best_of(arguments, "init", other) for other in more}
        others = [*arguments.methods, *([arguments.other] if arguments.other else [])]
        for name in others:
            with suppress(subprocess.CalledProcessError):  # it has said why, and ours is measured
                found[name] = best_of(arguments, name, rank)
    failed = [name for name in others if name not in found]
    figures = figures_of(found, "init", "")
    for other in more:
        figures |= figures_of(found, f"init_r{other}", f"_r{other}")
    figures |= {f"ratio_{name}": found[name]["seconds"] / found["init"]["seconds"] for name in others if name in found}
    print(f"{'':20s} {'seconds':>8s} {'beside weight gradients':>24s} {'peak memory':>12s}")
    for name, row in found.items():
        ratio = row["seconds"] / found["full_gradient"]["seconds"]
        print(f"{name:20s} {row['seconds']:8.1f} {ratio:24.2f} {row['peak_bytes'] / 2**30:8.2f} GiB")
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.results:
        about = {
            **describe_run(),
            "model": "SmolLM2-135M-Instruct" if "smollm2" in arguments.model else Path(arguments.model).name,
            "data": f"GSM8K train, {arguments.examples} examples, batches of {arguments.batch_size}",
            "measured": found,
            "failed": failed,
            "figures": figures,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


def figures_of(found: dict[str, dict[str, Any]], init: str, suffix: str) -> dict[str, float]:
    """The ratios of one initialisation."""
    own, full, frozen = found[init], found["full_gradient"], found["frozen"]
    sums = own["statistics_bytes"]
    figures = {
        "ratio_full_gradient": own["seconds"] / full["seconds"],
        "ratio_full_gradient_with_step": own["seconds_with_step"] / full["seconds"],
        "ratio_full_gradient_with_loss": own["seconds_with_loss"] / full["seconds"],
        "ratio_by_parts": own["seconds"] / found["by_parts"]["seconds"],
        "ratio_frozen": own["seconds"] / frozen["seconds"],
        "ratio_frozen_with_loss": own["seconds_with_loss"] / frozen["seconds"],
        "solve_share": own["solve_seconds"] / own["seconds"],
        "peak_memory_ratio": own["peak_bytes"] / (full["peak_bytes"] - full["gradient_bytes"] + sums),
        "peak_memory_ratio_frozen": own["peak_bytes"] / (frozen["peak_bytes"] + sums),
    }
    return {name + suffix: value for name, value in figures.items()}


def best_of(arguments: argparse.Namespace, name: str, rank: int) -> dict[str, Any]:
    """The fastest of some measurements, each in a fresh process."""
    command = [sys.executable, __file__, "--measure", name, "--model", arguments.model, "--dtype", arguments.dtype]
    command += ["--examples", str(arguments.examples), "--batch-size", str(arguments.batch_size)]
    command += ["--rank", str(rank)]
    rows = []
    for _ in range(arguments.repeats):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
    return min(rows, key=lambda row: float(row["seconds"]))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in this process."""
    data = Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl"
    loaded = load_model(ModelSource(arguments.model, dtype=arguments.dtype))
    form, calibration = RowFormat("question", "answer"), Calibration(arguments.examples)
    sample = read_sample(str(data), "train", form, loaded.tokenizer, calibration, seed=0)
    batches = list(sample.examples.batches(arguments.batch_size))
    lora = AdapterShape(rank=arguments.rank[0]).lora_config()
    if arguments.measure not in MEASURES:
        reset_peak()
        started = time.perf_counter()
        if ":" in arguments.measure:
            module, function = arguments.measure.split(":")
            getattr(importlib.import_module(module), function)(loaded.model, batches)
        else:
            get_method(arguments.measure).initialise(Setup(loaded.model, lora, batches, 7473, seed=0))
        return {"seconds": time.perf_counter() - started, "peak_bytes": peak()}

    model = get_peft_model(loaded.model, lora)
    config = LoraDAConfig(population_size=7473)
    layers = find_adapted_layers(model, "default")[0]
    if arguments.measure == "init":
        initialize_lora_da_weights(model, batches[:1], config, measure_loss=False, progress=False)
        reset_peak()
        report = initialize_lora_da_weights(model, batches, config, progress=False)
        bases = {name: layer.base for name, layer in layers.items()}
        with adapters_disabled(find_base_model(model)):
            groups = find_shared_inputs(Objective(find_base_model(model)), bases, batches[0])
        kinds: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for name, layer in layers.items():
            kinds[groups[name]].append(layer.shape)
        return {
            "seconds": report.seconds["statistics"] + report.seconds["solve"],
            "seconds_with_step": sum(report.seconds.values()) - report.seconds["loss"],
            "seconds_with_loss": sum(report.seconds.values()),
            "collect_seconds": report.seconds["statistics"],
            "solve_seconds": report.seconds["solve"],
            "peak_bytes": peak(),
            "statistics_bytes": sum(sums_bytes(shapes, config.collection) for shapes in kinds.values()),
        }

    base: Any = find_base_model(model)
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    if arguments.measure == "frozen":
        base.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
    base.eval()
    with adapters_disabled(base):
        if arguments.measure != "frozen":
            linear: list[Any] = [layer.base for layer in layers.values()]
            for module in linear:
                module.weight.requires_grad_(True)
        run = pass_by_parts if arguments.measure == "by_parts" else plain_pass
        run(base, batches[:1])
        reset_peak()
        started = time.perf_counter()
        run(base, batches)
        seconds, trained = time.perf_counter() - started, [p for p in base.parameters() if p.requires_grad]
        gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        return {"seconds": seconds, "peak_bytes": peak(), "gradient_bytes": gradients}


def plain_pass(model: Any, batches: list[Any]) -> None:
    """One forward and one backward pass a batch, with the loss that the initialisation uses."""
    for batch in batches:
        output = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        CausalLM()(output, batch).sum().backward()


def pass_by_parts(model: Any, batches: list[Any]) -> None:
    """The same with the logits where a label is predicted alone, some at a time."""
    for batch in batches:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
        hidden = HiddenStates.of(model, inputs, {})
        assert hidden is not None
        _, gradient = compute_chunked_losses(hidden, batch["labels"], CausalLM())
        hidden.states.backward(gradient)


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
