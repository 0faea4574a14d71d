"""What initialising published model sizes takes, on paper: the figures of docs/cost.md.

    python benchmarks/plans.py --results results/plans

Each model is its published configuration, without weights; the plans are those of ``lora-da plan`` for a GPU with the
memory given, 256 examples of 200 tokens. Where the weights are shared out over several GPUs (FSDP), each
holds its part of them, one block gathered, and the sums of its own examples. Nothing is run and no time is measured:
operations are counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from about_run import describe_run
from lora_da import LoraDAConfig
from lora_da.loading import ModelSource
from lora_da.system.files import write_text
from lora_da.system.sizes import format_size
from lora_da.workflows.plan import Machine, Plan, Workload, plan_initialization
from lora_da.workflows.settings import AdapterShape
from published import SHAPES

GIB = 2**30


@dataclass(frozen=True)
class Case:
    """A model on GPUs.

    Attributes:
        model: Its name, among the published shapes.
        gpus: How many GPUs share the weights.
        gpu_gib: Free memory of each.
        host_gib: Free memory of the host, for each GPU.
        batch_size: Examples a batch on each GPU.
        dtype: Precision of the weights.
    """

    model: str
    gpus: int
    gpu_gib: int
    host_gib: int
    batch_size: int = 8
    dtype: str = "bfloat16"


CASES = (
    Case("Llama-2-7B", 1, 24, 64, 4),
    Case("Llama-2-7B", 1, 24, 64, dtype="4bit"),
    Case("Llama-2-7B", 1, 80, 128),
    Case("Llama-2-7B", 1, 141, 128),
    Case("Llama-3.1-8B", 1, 80, 128),
    Case("Llama-2-13B", 1, 80, 128),
    Case("Llama-2-70B", 8, 80, 128, 4),
    Case("Llama-3.1-405B", 32, 80, 128, 1),
    Case("Llama-3.1-405B", 32, 80, 256, 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder to write plans.json and plans.md to")
    parser.add_argument("--only", help="cases whose model has this in its name")
    arguments = parser.parse_args()
    rows = [planned(case) for case in CASES if not arguments.only or arguments.only in case.model]
    print(table(rows))
    if arguments.results:
        about = {**describe_run(), "plans": rows}
        write_text(arguments.results / "plans.json", json.dumps(about, indent=1) + "\n", overwrite=True)
        write_text(arguments.results / "plans.md", table(rows), overwrite=True)


def planned(case: Case) -> dict[str, Any]:
    """The plan of one case, in numbers."""
    workload = Workload(examples=256, tokens=256 * 200, longest=200, batch_size=case.batch_size)
    config = SHAPES[case.model]
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        source = ModelSource(folder, case.dtype)
        probe = plan_initialization(source, AdapterShape(), LoraDAConfig(), workload, Machine("cuda", 2**60, 2**60))
        # What FSDP leaves on each GPU: its part of the weights, and one block gathered for computing.
        blocks = config.num_hidden_layers
        sharded = case.gpus > 1
        own = probe.model_bytes // case.gpus + (probe.model_bytes // blocks if sharded else 0)
        free = case.gpu_gib * GIB + probe.model_bytes - own  # the plan takes all of the model off again
        machine = Machine("cuda", free, case.host_gib * GIB)
        plan = plan_initialization(source, AdapterShape(), LoraDAConfig(), workload, machine)
    return {
        "model": case.model + (" in 4 bits" if case.dtype == "4bit" else ""),
        "gpus": case.gpus,
        "gpu_gib": case.gpu_gib,
        "host_gib": case.host_gib,
        "batch_size": case.batch_size,
        "weights_bytes_per_gpu": own,
        "sums_bytes": plan.statistics_bytes,
        "activation_bytes": plan.activation_bytes,
        "solver_bytes": plan.solver_bytes,
        "place": plan.memory.place if plan.memory else None,
        "passes": len(plan.memory.passes) if plan.memory else None,
        "problem": plan.problem,
        "collect_operations": plan.collect_operations,
        "solve_operations": plan.solve_operations,
        "largest_layer": largest(plan),
    }


def largest(plan: Plan) -> dict[str, Any]:
    """The kind of layer with the most to hold: its sums by themselves, in bytes."""
    kind, (_, d_in, d_out) = max(plan.layers.items(), key=lambda item: item[1][1] * (item[1][1] + item[1][2]))
    return {"kind": kind, "d_in": d_in, "d_out": d_out, "bytes": 4 * (d_in * d_in + d_out * d_in + d_out)}


def table(rows: list[dict[str, Any]]) -> str:
    """The plans as Markdown."""
    lines = [
        "| model | GPUs | host, each | weights, each | a batch | all sums | kept | passes | operations "
        "| to solve (float64) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kept = {"device": "on the GPU", "host": "in host memory", None: "nowhere"}[row["place"]]
        cells = [
            row["model"],
            f"{row['gpus']} × {row['gpu_gib']} GB" if row["gpus"] > 1 else f"{row['gpu_gib']} GB",
            f"{row['host_gib']} GB",
            format_size(row["weights_bytes_per_gpu"]),
            f"{format_size(row['activation_bytes'])} ({row['batch_size']} examples)",
            format_size(row["sums_bytes"]),
            kept,
            str(row["passes"] or "–"),
            f"{row['collect_operations'] / 1e15:,.1f} · 10¹⁵",
            f"{row['solve_operations'] / 1e15:,.2f} · 10¹⁵",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
