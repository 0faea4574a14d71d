"""What is wrong in one process of a job: it has something else than the others, fails, or dies while it works."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lora_da import Checkpoint, LoraDAConfig, collect_statistics
from lora_da.losses import CausalLM
from lora_da.pipeline import inventory, loss_measurement, solution
from lora_da.system.files import atomic_path
from models import batches_of, causal_examples, tiny_llama

Call = dict[str, Any]
Fault = Callable[[Call, random.Random], None]


def usual_call() -> Call:
    """What a process does that has no fault."""
    return {
        "model": tiny_llama,
        "adapter": {"r": 2},
        "writing": write,
        "data": batches_of(causal_examples(8), 2),
        "options": {"config": LoraDAConfig(population_size=100), "max_examples": 8, "measure_loss": True},
    }


def _weights(call: Call, chance: random.Random) -> None:
    def changed() -> nn.Module:
        model: nn.Module = tiny_llama()
        entries = chance.choice([*model.parameters(), *model.buffers()]).data.view(-1)
        entries[chance.randrange(len(entries))] += 1e-3
        return model

    call["model"] = changed


def _precision(call: Call, chance: random.Random) -> None:
    call["model"] = lambda: tiny_llama().to(chance.choice([torch.bfloat16, torch.float64]))


def _shapes(call: Call, chance: random.Random) -> None:
    call["model"] = lambda: tiny_llama(intermediate_size=32)


def _software(call: Call, chance: random.Random) -> None:
    vars(inventory)["find_versions"] = lambda: {"torch": "1.0"}


def _adapter(call: Call, chance: random.Random) -> None:
    call["adapter"] = chance.choice([{"r": 3}, {"r": 2, "lora_alpha": 3}, {"r": 2, "target_modules": ["q_proj"]}])


def _options(call: Call, chance: random.Random) -> None:
    call["options"] |= chance.choice(
        [
            {"config": LoraDAConfig(population_size=99)},
            {"config": LoraDAConfig(population_size=100, init_scale="stable")},
            {"max_examples": 6},
            {"measure_loss": False},
            {"example_loss": CausalLM("mean")},
            {"checkpoint": Checkpoint(Path(tempfile.mkdtemp()))},
        ]
    )


def _data(call: Call, chance: random.Random) -> None:
    call["data"] = batches_of(causal_examples(8, seed=1), 2) if chance.random() < 0.5 else call["data"][:-1]


def _statistics(call: Call, chance: random.Random) -> None:
    found = _collect_alone(call)
    call["options"]["statistics"] = found


def _other_call(call: Call, chance: random.Random) -> None:
    call["collect"] = True


def _no_adapter(call: Call, chance: random.Random) -> None:
    call["adapter"] = None


def _failing(call: Call, chance: random.Random) -> None:
    data, last = call["data"], chance.randrange(3)

    def broken() -> Iterator[Any]:
        yield from data[:last]
        raise OSError("the disk is gone")

    call["data"] = broken()


def _dying_loader(call: Call, chance: random.Random) -> None:
    data, last = call["data"], chance.randrange(3)

    def broken() -> Iterator[Any]:
        yield from data[:last]
        os.kill(os.getpid(), signal.SIGKILL)

    call["data"] = broken()


def _dying_model(call: Call, chance: random.Random) -> None:
    """At one of the runs of the model."""
    left = [chance.randrange(1, 9)]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def made() -> nn.Module:
        model: nn.Module = tiny_llama()
        model.register_forward_pre_hook(count)
        return model

    call["model"] = made


def _dying_solver(call: Call, chance: random.Random) -> None:
    """Before its share is solved, or after one of the layers."""
    left, solve = [chance.randrange(2)], vars(solution)["solve_layer"]

    def dying(*given: Any, **options: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return solve(*given, **options)

    vars(solution)["solve_layer"] = dying


def _dying_writer(call: Call, chance: random.Random) -> None:
    call["writing"] = chance.choice([_die_at_once, _die_half_way])


def _die_at_once(path: Path, found: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_half_way(path: Path, found: object) -> None:
    with atomic_path(path) as draft:
        torch.save(found, draft)
        os.kill(os.getpid(), signal.SIGKILL)


def _failing_writer(call: Call, chance: random.Random) -> None:
    def fail(path: Path, found: object) -> None:
        raise OSError("the disk is full")

    call["writing"] = fail


def _dying_reader(call: Call, chance: random.Random) -> None:
    """Another process than the writer, while that writes."""
    call["waiting"] = True


def _failing_measurement(call: Call, chance: random.Random) -> None:
    """Of the loss, which is no fault of the job's."""
    left, measure = [chance.choice([0, 0, 1])], vars(loss_measurement)["measure_calibration_loss"]

    def failing(*given: Any, **options: Any) -> Any:
        if left[0] == 0:
            raise RuntimeError("out of memory")
        left[0] -= 1
        return measure(*given, **options)

    vars(loss_measurement)["measure_calibration_loss"] = failing


DIFFERENT = [
    _weights, _precision, _shapes, _software, _adapter, _options, _data, _other_call, _statistics
]  # fmt: skip
FAILING = [_no_adapter, _failing, _failing_writer]
DYING = [_dying_loader, _dying_model, _dying_solver, _dying_writer, _dying_reader]
TOLERATED = [_failing_measurement]
WRITERS = [_failing_writer, _dying_writer]  # of which the first process is one
OTHERS_DIE = [_dying_reader]
FAULTS: list[Fault] = [*DIFFERENT, *FAILING, *DYING, *TOLERATED]


def _collect_alone(call: Call) -> Any:
    """Statistics without asking the others."""
    joined, dist.is_initialized = dist.is_initialized, lambda: False
    try:
        return collect_statistics(call["model"](), call["data"], progress=False)
    finally:
        dist.is_initialized = joined


def write(path: Path, found: object) -> None:
    with atomic_path(path) as draft:
        torch.save(found, draft)
