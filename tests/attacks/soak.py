"""Initialisations, batches and failures without end: nothing of them stays in the process, and none changes the next.

    PYTHONPATH=tests python -m attacks.soak --rounds 30

A round is 10 initialisations, 340 batches and 68 failures, so that 30 rounds are 300, 10,200 and 2,040. Beside memory
it counts what a process can leak without growing by much: open files, threads, tensors, and hooks of the model.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Iterator
from typing import Any

import psutil
import torch
from peft import get_peft_model_state_dict

from attacks.rounds import main
from lora_da import collect_statistics, initialize_lora_da_weights
from models import Example, batches_of, causal_examples, tiny_llama, with_lora

INITIALISATIONS, BATCHES, FAILURES = 10, 340, 68
GROWTH = 24 * 2**20  # bytes in a round: what allocators keep for themselves comes and goes


def attack(number: int) -> list[str]:
    """Initialise, collect and fail, and compare what the process holds before and after."""
    chance = random.Random(number)
    plain, adapted = tiny_llama(), with_lora(tiny_llama())
    batches = batches_of(causal_examples(4), 2)
    wanted = initialised(adapted, batches)
    collect_statistics(plain, batches, progress=False)
    fail(adapted, batches, chance)
    before = held(plain, adapted)
    faults = []
    for _ in range(INITIALISATIONS):
        found = initialised(adapted, batches)
        if any(not torch.equal(found[name], tensor) for name, tensor in wanted.items()):
            faults.append("the same initialisation gave another adapter")
        del found
    collect_statistics(plain, batches * (BATCHES // len(batches)), progress=False)
    for _ in range(FAILURES):
        faults += fail(adapted, batches, chance)
    after = held(plain, adapted)
    if after.pop("bytes") > before.pop("bytes") + GROWTH:
        faults.append(f"the process grew by more than {GROWTH / 2**20:.0f} MiB")
    return [
        *faults,
        *(f"{what}: {before[what]} before, {after[what]} after" for what in before if after[what] > before[what]),
    ]


def initialised(model: Any, batches: Any) -> dict[str, torch.Tensor]:
    """The adapter that an initialisation gives."""
    with warnings.catch_warnings():  # that so few tokens leave much to damping
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(model, batches, progress=False)
    return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}


def fail(model: Any, batches: list[Example], chance: random.Random) -> list[str]:
    """Let an initialisation fail in one of several ways; what did not hold."""

    def broken(error: type[BaseException]) -> Iterator[Example]:
        yield batches[0]
        raise error("broken")

    too_large = [batch | {"input_ids": batch["input_ids"] + 10_000} for batch in batches]
    unlabelled = [batch | {"labels": torch.full_like(batch["labels"], -100)} for batch in batches]
    ways: list[tuple[Any, dict[str, Any], type[BaseException]]] = [
        (broken(OSError), {}, OSError),
        (broken(KeyboardInterrupt), {}, KeyboardInterrupt),
        (too_large, {}, ValueError),
        (unlabelled, {}, ValueError),
        ([], {}, ValueError),
        (batches, {"memory_budget": "1KB"}, ValueError),
        (batches, {"example_loss": lambda *_: torch.full((2,), float("nan"), requires_grad=True)}, ValueError),
    ]
    data, options, error = chance.choice(ways)
    try:
        initialize_lora_da_weights(model, data, progress=False, **options)
    except error:
        return []
    return [f"{error.__name__} was expected, and nothing was raised"]


def held(*models: torch.nn.Module) -> dict[str, int]:
    """What the process holds."""
    gc.collect()
    process = psutil.Process()
    modules = [module for model in models for module in model.modules()]
    return {
        "files": len(process.open_files()),
        "threads": process.num_threads(),
        "tensors": sum(isinstance(one, torch.Tensor) for one in gc.get_objects()),
        "hooks": sum(
            len(one._forward_hooks) + len(one._forward_pre_hooks) + len(one._backward_hooks) for one in modules
        ),
        "bytes": process.memory_info().rss,
    }


if __name__ == "__main__":
    main(attack, 30)
