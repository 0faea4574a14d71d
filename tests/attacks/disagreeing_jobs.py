"""Jobs of two to four processes of which one has something else, fails or dies: all end in words, and none hangs.

The processes are forked from one that has imported everything, and which must not have computed gradients before: so
this is always run as a program.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from attacks.rounds import main
from lora_da import Checkpoint, LoraDAConfig, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.losses import CausalLM
from lora_da.pipeline import inventory
from lora_da.workflows.job import writing_together
from models import batches_of, causal_examples, tiny_llama, with_lora

SECONDS = 60  # a job takes about three
Call = dict[str, Any]


def _call() -> Call:
    return {
        "model": tiny_llama,
        "adapter": {"r": 2},
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
    found = collect_alone(call)
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


def _dying_writer(call: Call, chance: random.Random) -> None:
    call["writer dies"] = True


DIFFERENT = [
    _weights, _precision, _shapes, _software, _adapter, _options, _data, _other_call, _statistics
]  # fmt: skip
FAILING = [_no_adapter, _failing]
DYING = [_dying_loader, _dying_model, _dying_writer]
FAULTS: list[Callable[[Call, random.Random], None]] = [*DIFFERENT, *FAILING, *DYING]


def collect_alone(call: Call) -> Any:
    """Statistics without asking the others."""
    joined, dist.is_initialized = dist.is_initialized, lambda: False
    try:
        return collect_statistics(call["model"](), call["data"], progress=False)
    finally:
        dist.is_initialized = joined


def attack(number: int) -> list[str]:
    """Start a job with one fault in one process, and look at how each ends and what it says."""
    chance, fault = random.Random(number), FAULTS[number % len(FAULTS)]
    size = chance.choice([2, 2, 3, 4])
    victim = 0 if fault is _dying_writer else chance.randrange(size)
    with tempfile.TemporaryDirectory() as name:
        folder, children = Path(name), {}
        for rank in range(size):
            child = os.fork()
            if child == 0:
                _live(folder, rank, size, fault if rank == victim else None, number)
            children[rank] = child
        codes = _wait_for(children)
        told = {rank: (folder / f"{rank}.json") for rank in range(size)}
        said = {rank: json.loads(file.read_text()) for rank, file in told.items() if file.is_file()}
    faults = _judge(fault, victim, codes, said)
    return [f"{fault.__name__} in {victim} of {size}: {what} ({codes}, {said})" for what in faults]


def _judge(
    fault: Callable[[Call, random.Random], None], victim: int, codes: dict[int, int], said: dict[int, str]
) -> list[str]:
    """What is not as it should be."""
    if fault in DYING and codes[victim] == 0:  # it had no such run
        return [] if set(codes.values()) == {0} else ["a job without a fault failed"]
    others = [rank for rank in codes if rank != victim]
    faults = ["a process ended well"] if 0 in codes.values() else []
    faults += ["a message has several lines"] if any("\n" in line for line in said.values()) else []
    if fault in DYING:
        told = codes[victim] == -signal.SIGKILL and all("died or did not" in said.get(rank, "") for rank in others)
    elif fault in FAILING:
        told = all(f"process {victim}" in said.get(rank, "") for rank in others)
    else:
        named = [rank for rank in codes if rank and victim in (0, rank)]
        told = len(said) == len(codes) and len(set(said.values())) == 1
        told = told and all(f"process {rank} differs in" in said[0] for rank in named)
    return faults if told else [*faults, "not every process says what is wrong"]


def _wait_for(children: dict[int, int]) -> dict[int, int]:
    """The codes with which the processes end, none of which may hang."""
    codes: dict[int, int] = {}
    end = time.monotonic() + SECONDS
    while len(codes) < len(children):
        for rank in children.keys() - codes.keys():
            done, status = os.waitpid(children[rank], os.WNOHANG)
            if done:
                codes[rank] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for rank in children.keys() - codes.keys():
                os.kill(children[rank], signal.SIGKILL)
                os.waitpid(children[rank], 0)
            raise AssertionError(f"processes {sorted(children.keys() - codes.keys())} hang; the others ended: {codes}")
        time.sleep(0.02)
    return codes


def _live(folder: Path, rank: int, size: int, fault: Callable[[Call, random.Random], None] | None, number: int) -> None:
    """One process, to its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        store = torch._C._distributed_c10d.FileStore(str(folder / "store"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=SECONDS / 2))
        call = _call()
        if fault is not None:
            fault(call, random.Random(number))
        _initialize(folder, call)
    except Exception as error:
        (folder / f"{rank}.json").write_text(json.dumps(str(error)))
        os._exit(1)
    os._exit(0)


def _initialize(folder: Path, call: Call) -> None:
    model: Any = call["model"]()
    if call["adapter"] is not None:
        model = with_lora(model, **call["adapter"])
    options = call["options"]
    if "collect" in call:
        collect_statistics(model, call["data"], progress=False)
    else:
        initialize_lora_da_weights(model, call["data"], progress=False, **options)
    with writing_together() as writes:
        if writes and "writer dies" in call:
            os.kill(os.getpid(), signal.SIGKILL)
        if writes:
            layers = find_adapted_layers(model, "default")[0]
            torch.save({name: layer.A for name, layer in layers.items()}, folder / "written")


if __name__ == "__main__":
    main(attack, 3 * len(FAULTS))
