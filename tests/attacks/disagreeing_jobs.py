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
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from attacks.job_faults import DYING, FAILING, FAULTS, OTHERS_DIE, TOLERATED, WRITERS, Call, Fault, usual_call
from attacks.rounds import main
from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.workflows.job import writing_together
from models import with_lora

SECONDS = 60  # a job takes about three


def attack(number: int) -> list[str]:
    """Start a job with one fault in one process, and look at how each ends and what it says."""
    chance, fault = random.Random(number), FAULTS[number % len(FAULTS)]
    size = chance.choice([2, 2, 3, 4])
    victim = chance.randrange(size)
    victim = 0 if fault in WRITERS else size - 1 if fault in OTHERS_DIE else victim
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
        if (folder / "written").exists():
            torch.load(folder / "written")  # whole, or this fails
    faults = _judge(fault, victim, codes, said)
    return [f"{fault.__name__} in {victim} of {size}: {what} ({codes}, {said})" for what in faults]


def _judge(fault: Fault, victim: int, codes: dict[int, int], said: dict[int, str]) -> list[str]:
    """What is not as it should be."""
    if fault in DYING and codes[victim] == 0:  # it had no such run
        return [] if set(codes.values()) == {0} else ["a job without a fault failed"]
    if fault in TOLERATED:
        alike = len(said) in (0, len(codes)) and len(set(said.values())) <= 1
        told = all(f"process {victim}: RuntimeError: out of memory" in line for line in said.values())
        return [] if set(codes.values()) == {0} and alike and told else ["a measurement has ended the job"]
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


def _live(folder: Path, rank: int, size: int, fault: Fault | None, number: int) -> None:
    """One process, to its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        store = torch._C._distributed_c10d.FileStore(str(folder / "store"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=SECONDS / 2))
        call = usual_call()
        if fault is not None:
            fault(call, random.Random(number))
        notices = _initialize(folder, call)
        told = [notice for notice in notices if "could not be" in notice]
        if told:
            (folder / f"{rank}.json").write_text(json.dumps(told[0]))
    except Exception as error:
        (folder / f"{rank}.json").write_text(json.dumps(str(error)))
        os._exit(1)
    os._exit(0)


def _initialize(folder: Path, call: Call) -> tuple[str, ...]:
    """Do what the call says, and return what the user should know."""
    model: Any = call["model"]()
    if call["adapter"] is not None:
        model = with_lora(model, **call["adapter"])
    if "collect" in call:
        collect_statistics(model, call["data"], progress=False)
        return ()
    report = initialize_lora_da_weights(model, call["data"], progress=False, **call["options"])
    layers = find_adapted_layers(model, "default")[0]
    with writing_together() as writes:
        if "waiting" in call:
            os.kill(os.getpid(), signal.SIGKILL)
        if writes:
            call["writing"](folder / "written", {name: layer.A for name, layer in layers.items()})
    return report.notices


if __name__ == "__main__":
    main(attack, 3 * len(FAULTS))
