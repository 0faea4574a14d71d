"""The states of all random generators, and those of a data loader."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def preserve_random_state(dataloader: Any = None) -> Iterator[None]:
    """Put the states of all random generators back at the end, those of a data loader and its samplers included.

    So the order of the training batches afterwards is the one that it would have been.
    """
    sampler, batch_sampler = getattr(dataloader, "sampler", None), getattr(dataloader, "batch_sampler", None)
    owners = (dataloader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    generators = {
        id(generator): (generator, generator.get_state())
        for generator in (getattr(owner, "generator", None) for owner in owners)
        if isinstance(generator, torch.Generator)
    }
    python_state = random.getstate()
    numpy_random = sys.modules["numpy"].random if "numpy" in sys.modules else None
    numpy_state = numpy_random.get_state() if numpy_random else None
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python_state)
        if numpy_random:
            numpy_random.set_state(numpy_state)
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        for generator, state in generators.values():
            generator.set_state(state)
