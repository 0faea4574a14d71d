"""One process of a job: initialises adapters on a trained tiny Llama, and saves what it ended up with.

Called as ``torchrun worker.py OUTPUT EXAMPLES MODE:BATCH_SIZE ...``: one initialisation each, to a folder of its name.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, DistributedSampler

sys.path.insert(0, str(Path(__file__).parents[1]))

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.adapter.sharding import gather_parameter
from lora_da.losses import CausalLM
from lora_da.pipeline.checkpoint import Checkpoint
from lora_da.statistics.sums import Statistics
from models import trained_llama
from presets import PARAMETERS

VOCABULARY = 512


def examples(count: int) -> list[dict[str, torch.Tensor]]:
    """Texts of random tokens and of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        length = 8 + (5 * index) % 17
        ids = torch.randint(3, VOCABULARY, (24,), generator=generator)
        attended = torch.arange(24) < length
        labels = torch.where(attended, ids, -100)
        made.append({"input_ids": ids * attended, "attention_mask": attended.long(), "labels": labels})
    return made


class KillingLoader:
    """A loader that kills one process on the way."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(self.loader):
            if dist.get_rank() == 1 and index == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def failing_loss(output: Any, batch: Any) -> torch.Tensor:
    """What can't be computed in one process."""
    if dist.get_rank() == 1:
        raise ValueError("no label token")
    return CausalLM()(output, batch)


class KilledAfterSaving(Checkpoint):
    """A checkpoint whose process dies after the first batch."""

    def saving(self, file: Path) -> Callable[[Callable[[], Statistics]], None]:
        save = super().saving(file)

        def save_and_die(so_far: Callable[[], Statistics]) -> None:
            save(so_far)
            os.kill(os.getpid(), signal.SIGKILL)

        return save_and_die


def partitioned(model: Any, bf16: bool) -> Any:
    """The model in a DeepSpeed engine that parts every parameter (ZeRO-3)."""
    deepspeed: Any = importlib.import_module("deepspeed")

    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": bf16},
        "optimizer": {"type": "AdamW", "params": {"lr": 0.0, "torch_adam": True}},
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return deepspeed.initialize(model=model, model_parameters=parameters, config=settings)[0]


class Gatherings(TorchDispatchMode):
    """Counts how often FSDP gathers sharded weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func == torch.ops.c10d._allgather_base_.default
        return func(*args, **(kwargs or {}))


def main() -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    for case in sys.argv[3:]:
        mode, size = case.split(":")
        initialise(Path(sys.argv[1]), case, mode, int(sys.argv[2]), int(size))
    dist.destroy_process_group()


def initialise(output: Path, case: str, mode: str, count: int, size: int) -> None:
    rank = dist.get_rank()
    torch.manual_seed(rank)  # PEFT's random A differs between the processes; what LoRA-DA writes must not
    dtype = torch.bfloat16 if "bf16" in mode else torch.float64  # in which other orders of summation don't matter
    model = get_peft_model(trained_llama().to(dtype), LoraConfig(r=4, target_modules="all-linear"))
    if dtype == torch.float64:
        model.double()
    if mode.startswith("sharded"):
        base: Any = model.get_base_model()
        for layer in base.model.layers:
            fully_shard(layer)
        fully_shard(model)
        assert any(isinstance(parameter, DTensor) for parameter in model.parameters())
    options: dict[str, Any] = {}
    if mode.endswith("parts"):
        options["memory_budget"] = "600KB"
    if mode in ("interrupted", "resumed"):
        kind = KilledAfterSaving if mode == "interrupted" and rank == 1 else Checkpoint
        options["checkpoint"] = kind(output.parent / "partial", every=1)
    wrapped: Any = DistributedDataParallel(model) if mode == "wrapped" else model
    if mode.startswith("partitioned"):
        wrapped = partitioned(model, "bf16" in mode)
    data = examples(count)
    sampler = DistributedSampler(data, shuffle=False, drop_last=True) if mode == "divided" else None  # type: ignore[arg-type, var-annotated]
    loader: Any = DataLoader(data, batch_size=size, sampler=sampler)  # type: ignore[arg-type]
    if mode == "killed":
        loader = KillingLoader(loader)
    if mode.endswith("failing"):
        options["example_loss"] = failing_loss
    config = dataclasses.replace(PARAMETERS, population_size=1000)
    report = initialize_lora_da_weights(wrapped, loader, config, max_examples=count, progress=False, **options)
    found = {"loss_before": torch.tensor(report.loss_before), "loss_after": torch.tensor(report.loss_after)}
    found["passes"] = torch.tensor(any("passes over the data" in notice for notice in report.notices))
    found["examples"] = torch.tensor(report.examples)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            found[name] = gather_parameter(parameter).contiguous()
    if "bf16" in mode:  # a step of length zero, after which the weights come from the optimiser's own copy
        batch = {name: value[None] for name, value in data[rank].items()}
        wrapped.backward(wrapped(**batch).loss)
        wrapped.step()
        kept = [torch.equal(gather_parameter(p), found[name]) for name, p in model.named_parameters() if name in found]
        found["kept"] = torch.tensor(all(kept))
    statistics = collect_statistics(wrapped, loader, config.collection, max_examples=count, progress=False)
    found |= {f"gradient/{name}": value for name, value in statistics.gradient_sums.items()}
    found |= {f"input/{name}": value for name, value in statistics.input_sums.items()}
    found |= {f"output/{name}": value for name, value in statistics.output_sums.items()}
    if mode == "sharded":
        share = [batch for index, batch in enumerate(loader) if index % dist.get_world_size() == rank]
        with Gatherings() as collecting:
            collect_statistics(model, loader, max_examples=count, progress=False)
        with Gatherings() as plain:
            with torch.no_grad():
                for _ in range(6):  # as the loss is found out, and which rows are tokens
                    model(**share[0])
            for batch in share:
                model(**batch).loss.backward()
        found["gathered"], found["gathered by plain passes"] = torch.tensor(collecting.count), torch.tensor(plain.count)
    (output / case).mkdir(exist_ok=True)
    save_file(found, output / case / f"{rank}.safetensors")


main()
