from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from lora_da.system.random_state import preserve_random_state


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_random_states_come_back(error: type[BaseException] | None) -> None:
    def seed() -> None:
        random.seed(1)
        np.random.seed(2)
        torch.manual_seed(3)

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed()
    wanted = draw()
    seed()
    try:
        with preserve_random_state():
            draw()
            if error:
                raise error
    except KeyboardInterrupt:
        assert error
    assert draw() == wanted


def _loader(kind: str) -> DataLoader[int]:
    data, generator = list(range(40)), torch.Generator().manual_seed(5)
    if kind == "loader":
        return DataLoader(data, batch_size=4, shuffle=True, generator=generator)  # type: ignore[arg-type]
    sampler = RandomSampler(data, generator=generator)
    if kind == "sampler":
        return DataLoader(data, batch_size=4, sampler=sampler)  # type: ignore[arg-type]
    return DataLoader(data, batch_sampler=BatchSampler(sampler, 4, False))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["loader", "sampler", "batch sampler"])
def test_the_order_of_a_shuffled_loader_comes_back(kind: str) -> None:
    wanted = [batch.tolist() for batch in _loader(kind)]
    loader = _loader(kind)
    with preserve_random_state(loader):
        assert [batch.tolist() for batch in loader] == wanted
        next(iter(loader))
    assert [batch.tolist() for batch in loader] == wanted
