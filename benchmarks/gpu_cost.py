"""What an initialisation of large models costs on a GPU, with random weights of published shapes.

Each shape is measured in a process of its own: the initialisation in its default configuration, without the loss pass
after it, beside a forward and backward pass of the same batches with every parameter frozen, both after a warm-up
batch; with the fraction of the card's own matrix products and copies (both measured) that collecting achieves. A
model that does not fit is measured by a slice of its blocks, and its times are extrapolated in proportion to the
blocks: a little too much, since the head is multiplied too.

    python benchmarks/gpu_cost.py --results results/gpu-cost
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from about_run import describe_run
from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da.adapter.activation import adapters_disabled
from lora_da.adapter.wrapping import find_base_model
from lora_da.loading import ModelSource
from lora_da.losses import CausalLM
from lora_da.system.files import write_text
from lora_da.workflows.plan import Machine, Workload, plan_initialization
from lora_da.workflows.settings import AdapterShape
from published import SHAPES, llama

TINY = llama(64, 160, 4, 4, 2, 256)  # to try the benchmark where there is no GPU
CASES = ("Llama-2-7B", "Llama-2-13B", "Llama-2-70B:8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(CASES), help="NAME, or NAME:BLOCKS for a slice; or tiny")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=200, help="of an example")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, help="folder to write results.json to; shapes add up there")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    rows = []
    for shape in arguments.shapes:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", shape]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
        if arguments.results:
            save(rows, arguments.results)
    print(" ".join(f"ratio_frozen_{row['shape']}={row['ratio_frozen']:.3f}" for row in rows))


def save(rows: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "results.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    kept = [row for row in earlier if row["shape"] not in {new["shape"] for new in rows}]
    content = {**describe_run(), "rows": kept + rows}
    write_text(path, json.dumps(content, indent=1) + "\n", overwrite=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One shape, in this process."""
    name, _, part = arguments.measure.partition(":")
    config: LlamaConfig = copy.deepcopy(TINY if name == "tiny" else SHAPES[name])
    blocks, device = config.num_hidden_layers, torch.device(arguments.device)
    config.num_hidden_layers = int(part or blocks)
    ceilings = {"matmul_per_second": matmul_ceiling(device), "copy_bytes_per_second": copy_ceiling(device)}
    torch.manual_seed(0)
    with device:
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = get_peft_model(base, AdapterShape(rank=arguments.rank).lora_config()).eval()
    ids = torch.randint(config.vocab_size, (arguments.examples, arguments.tokens), device=device)
    parts = ids.split(arguments.batch_size)
    batches = [{"input_ids": part, "attention_mask": torch.ones_like(part), "labels": part} for part in parts]

    frozen = timed(lambda: frozen_pass(model, batches), lambda: frozen_pass(model, batches[:1]), device)
    frozen_peak = peak(device)
    options: Any = {"measure_loss": False, "progress": False}
    settings = LoraDAConfig(population_size=100_000)
    initialize_lora_da_weights(model, batches[:1], settings, **options)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.zeros_(parameter)  # as lora_B is in a fresh adapter
    peak(device)
    report = initialize_lora_da_weights(model, batches, settings, **options)
    workload = Workload(arguments.examples, ids.numel(), arguments.tokens, arguments.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        plan = plan_initialization(
            ModelSource(folder, "bfloat16"),
            AdapterShape(rank=arguments.rank),
            settings,
            workload,
            Machine(device.type, 2**60, 2**60),
        )
    collecting, solving = report.seconds["statistics"], report.seconds["solve"]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in base.parameters())
    moved = len(batches) * (2 * weights + 2 * plan.statistics_bytes)  # read twice; added to once
    row = {
        "shape": arguments.measure,
        "blocks": config.num_hidden_layers,
        "of_blocks": blocks,
        "examples": arguments.examples,
        "tokens": arguments.tokens,
        "batch_size": arguments.batch_size,
        "rank": arguments.rank,
        "frozen_seconds": frozen,
        "collect_seconds": collecting,
        "solve_seconds": solving,
        "ratio_frozen": (collecting + solving) / frozen,
        "frozen_peak_bytes": frozen_peak,
        "peak_bytes": peak(device),
        "statistics_bytes": plan.statistics_bytes,
        "weights_bytes": weights,
        "notices": report.notices,
        "matmul_fraction": plan.collect_operations / collecting / ceilings["matmul_per_second"],
        "copy_fraction": moved / collecting / ceilings["copy_bytes_per_second"],
    }
    return row | ceilings | extrapolated(row)


def extrapolated(row: dict[str, Any]) -> dict[str, Any]:
    """A slice of the blocks, in proportion to all of them; nothing for a whole model."""
    factor = row["of_blocks"] / row["blocks"]
    if factor == 1:
        return {}
    return {f"extrapolated_{part}_seconds": factor * row[f"{part}_seconds"] for part in ("frozen", "collect", "solve")}


def frozen_pass(model: Any, batches: list[Any]) -> None:
    """A forward and backward pass with respect to the activations alone."""
    base: Any = find_base_model(model)
    required = [parameter for parameter in base.parameters() if parameter.requires_grad]
    base.requires_grad_(False)
    hook = base.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
    try:
        with adapters_disabled(base):
            for batch in batches:
                output = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
                CausalLM()(output, batch).sum().backward()
    finally:
        hook.remove()
        for parameter in required:
            parameter.requires_grad_(True)


def timed(work: Callable[[], Any], warm_up: Callable[[], Any], device: torch.device) -> float:
    """Seconds of some work, all of the device's included."""
    warm_up()
    synchronise(device)
    peak(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> int:
    """The device's largest allocation since the last call, in bytes; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    found = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return found


def matmul_ceiling(device: torch.device) -> float:
    """Operations a second of large bfloat16 matrix products."""
    size = 8192 if device.type == "cuda" else 512
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 10 * 2 * size**3 / timed(lambda: [one @ one for _ in range(10)], lambda: one @ one, device)


def copy_ceiling(device: torch.device) -> float:
    """Bytes read and written a second by copies within the device."""
    one = torch.empty(2**30 if device.type == "cuda" else 2**24, dtype=torch.uint8, device=device)
    other = torch.empty_like(one)
    return 10 * 2 * one.numel() / timed(lambda: [other.copy_(one) for _ in range(10)], lambda: other.copy_(one), device)


if __name__ == "__main__":
    main()
