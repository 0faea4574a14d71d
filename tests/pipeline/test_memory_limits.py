from __future__ import annotations

import pytest
import torch

import lora_da.pipeline.memory_limits as module
from lora_da.pipeline.memory_limits import MemoryLimits, find_memory_limits, least_limits

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the host 1000 bytes are free, of the GPU 600."""
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000 if device.type == "cpu" else 600)


def test_auto_is_most_of_what_is_free() -> None:
    assert find_memory_limits({CPU: "0"}, "auto") == MemoryLimits({"0": 700}, None)
    assert find_memory_limits({GPU: "0"}, "auto") == MemoryLimits({"0": 420}, 700)


def test_a_size_limits_the_devices() -> None:
    assert find_memory_limits({CPU: "0"}, "1GiB") == MemoryLimits({"0": 2**30}, None)
    assert find_memory_limits({GPU: "0"}, 100) == MemoryLimits({"0": 100}, 700)


def test_processes_of_one_machine_share_its_memory() -> None:
    assert find_memory_limits({CPU: "0"}, "auto", processes=4).devices == {"0": 175}
    # Each has a GPU of its own.
    assert find_memory_limits({GPU: "0"}, "auto", processes=4) == MemoryLimits({"0": 420}, 175)


def test_the_largest_layer_is_left_room_to_be_solved() -> None:
    assert find_memory_limits({CPU: "0"}, "auto", solver=200).devices == {"0": 700}
    assert find_memory_limits({CPU: "0"}, "auto", solver=400).devices == {"0": 600}
    assert find_memory_limits({CPU: "0"}, "auto", solver=1200).devices == {"0": 0}
    assert find_memory_limits({GPU: "0"}, "auto", solver=600).host == 700  # the GPU solves it
    assert find_memory_limits({GPU: "0"}, "auto", solver=601).host == 399


def test_all_processes_keep_to_what_the_poorest_may_take() -> None:
    found = least_limits([MemoryLimits({"0": 5, "1": 9}, 20), MemoryLimits({"0": 7, "1": 3}, None)])
    assert found == MemoryLimits({"0": 5, "1": 3}, 20)
