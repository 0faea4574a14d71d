"""What a training step costs with A frozen: LoRA of rank r, A frozen at r, and at 2r, which trains as many parameters.

    LORA_DA_DATA=<data folder> python benchmarks/frozen_a.py --steps 10 --rounds 5 --results results/frozen-a

Each measurement is a process of its own, the three in turn in every round: some steps of AdamW on GSM8K's training
examples, the same batches for all, after one step that is not counted. Of the seconds a step, the median over rounds is
told, and of their ratios to LoRA's in the same round; of what depends on the machine's other work less,

- ``peak_bytes`` is the process's largest resident set in these steps (of a CUDA device torch's allocations), the model
  included;
- ``kept_bytes`` is what autograd keeps between the forward and the backward pass of the first batch, without
  parameters: each storage once, none of a checkpointed block;
- ``optimizer_bytes`` and ``gradient_bytes`` are counted.

The last line of the output can be read by a script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from about_run import describe_run
from lora_da import freeze_a
from lora_da.loading import ModelSource, RowFormat, convert_gguf, find_model, load_model
from lora_da.system.files import write_text
from lora_da.system.memory import peak_memory, reset_peak_memory
from lora_da.system.sizes import format_size
from lora_da.workflows.calibration_sample import read_sample
from lora_da.workflows.settings import AdapterShape, Calibration

VARIANTS = {"lora_r": (1, False), "frozen_r": (1, True), "frozen_2r": (2, True)}
"""By name: how many times the rank, and whether A is frozen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, or a local folder")
    parser.add_argument("--rank", type=int, default=8, help="r")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="how often each variant is measured")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--dtype", default="float32", help="of the base; the adapter is float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpointing", action="store_true", help="checkpoint the activations of blocks")
    parser.add_argument("--seed", type=int, default=0, help="of the examples and the adapter")
    parser.add_argument("--results", type=Path, help="folder to write results.json to")
    parser.add_argument("--measure", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options = sys.argv[1:]
        if arguments.model == "smollm2":
            options = [*options, "--model", str(convert_gguf(Path(find_model("smollm2")), Path(folder) / "smollm2"))]
        rounds = [{name: measured_apart(name, options) for name in VARIANTS} for _ in range(arguments.rounds)]
    found = summarise(rounds)
    print(table(found))
    if arguments.results:
        about = {
            **describe_run(),
            "model": "SmolLM2-135M-Instruct" if arguments.model == "smollm2" else Path(arguments.model).name,
            "data": f"GSM8K train, {arguments.steps} batches of {arguments.batch_size}",
            "seed": arguments.seed,
            "summary": found,
            "rounds": rounds,
        }
        write_text(arguments.results / "results.json", json.dumps(about, indent=1) + "\n", overwrite=True)
    figures = {f"{key}_{name}": row[key] for name, row in found.items() for key in ("step_ratio", "peak_ratio")}
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


def measured_apart(name: str, options: list[str]) -> dict[str, Any]:
    """One measurement, in a fresh process."""
    command = [sys.executable, __file__, *options, "--measure", name]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    row: dict[str, Any] = json.loads(output.splitlines()[-1])
    return row


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in this process."""
    factor, frozen = VARIANTS[arguments.measure]
    data, form = Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl", RowFormat("question", "answer")
    loaded = load_model(ModelSource(arguments.model, dtype=arguments.dtype, device=arguments.device))
    count = (arguments.steps + 1) * arguments.batch_size
    sample = read_sample(str(data), "train", form, loaded.tokenizer, Calibration(count), seed=arguments.seed)
    device = torch.device(arguments.device)
    batches = [
        {name: value.to(device) for name, value in batch.items()}
        for batch in sample.examples.batches(arguments.batch_size)
    ]
    torch.manual_seed(arguments.seed)
    model: Any = AdapterShape(rank=factor * arguments.rank).adapt(loaded.model).train()
    if frozen:
        freeze_a(model)
    if arguments.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    train_steps(model, optimizer, batches[:1])
    reset_peak_memory(device)
    started = time.perf_counter()
    train_steps(model, optimizer, batches[1:])
    seconds = (time.perf_counter() - started) / len(batches[1:])
    states = [value for state in optimizer.state.values() for value in state.values()]
    return {
        "step_seconds": seconds,
        "peak_bytes": peak_memory(device),
        "kept_bytes": kept_bytes(model, batches[1]),
        "optimizer_bytes": size_of(states),
        "gradient_bytes": size_of(trained),
        "trained": sum(parameter.numel() for parameter in trained),
        "tokens": sum(int(batch["attention_mask"].sum()) for batch in batches[1:]),
    }


def train_steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[dict[str, Tensor]]) -> None:
    """One step a batch, as a trainer does it."""
    for batch in batches:
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def kept_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """What autograd keeps of one forward pass, without the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no address is given out twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch, use_cache=False)
    return sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in parameters)


def size_of(tensors: list[Any]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def summarise(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Medians over rounds, and of the ratios to LoRA of rank r in the same round."""
    found: dict[str, dict[str, Any]] = {}
    for name in VARIANTS:
        row: dict[str, Any] = {key: median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for ratio, key in (("step_ratio", "step_seconds"), ("peak_ratio", "peak_bytes"), ("kept_ratio", "kept_bytes")):
            row[ratio] = median(one[name][key] / one["lora_r"][key] for one in rounds)
        found[name] = row
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = [
        "| | trained parameters | seconds a step | beside LoRA r | peak memory | kept for backward | optimiser |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        sizes = [format_size(int(row[key])) for key in ("peak_bytes", "kept_bytes", "optimizer_bytes")]
        cells = [name.replace("_", " "), f"{row['trained']:,.0f}", f"{row['step_seconds']:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{row['step_ratio']:.2f}", *sizes]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
