from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lora_da.system.memory
from lora_da.pipeline.memory_plan import memory_limits
from lora_da.system.memory import free_bytes, parse_size

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * 2**30), ("1.5 MiB", 3 * 2**19), ("500MB", 500 * 10**6), ("2gb", 2 * 10**9), (4096, 4096), ("7", 7)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", 0, "GiB", "1PB"])
def test_what_is_no_size(text: int | str) -> None:
    with pytest.raises(ValueError, match='"auto", a number of bytes or a size such as "24GiB"'):
        parse_size(text)


def test_auto_is_most_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_da.system.memory, "free_bytes", lambda device: 1000 if device.type == "cpu" else 600)
    assert memory_limits({CPU: "0"}, "auto").devices == {"0": 700}
    assert memory_limits({CPU: "0"}, "auto").host is None
    on_gpu = memory_limits({GPU: "0"}, "auto")
    assert (on_gpu.devices, on_gpu.host) == ({"0": 420}, 700)


def test_a_size_limits_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_da.system.memory, "free_bytes", lambda device: 1000)
    assert memory_limits({CPU: "0"}, "1GiB").devices == {"0": 2**30}
    on_gpu = memory_limits({GPU: "0"}, 100)
    assert (on_gpu.devices, on_gpu.host) == ({"0": 100}, 700)


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_da.system.memory, "free_bytes", lambda device: 1000)
    assert memory_limits({CPU: "0"}, "auto", processes=4).devices == {"0": 175}
    on_gpu = memory_limits({GPU: "0"}, "auto", processes=4)  # each has a GPU of its own
    assert (on_gpu.devices, on_gpu.host) == ({"0": 700}, 175)


def test_the_largest_layer_is_left_room_to_be_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_da.system.memory, "free_bytes", lambda device: 1000 if device.type == "cpu" else 600)
    assert memory_limits({CPU: "0"}, "auto", solver=200).devices == {"0": 700}
    assert memory_limits({CPU: "0"}, "auto", solver=400).devices == {"0": 600}
    assert memory_limits({CPU: "0"}, "auto", solver=1200).devices == {"0": 0}
    assert memory_limits({GPU: "0"}, "auto", solver=600).host == 700  # the GPU solves it
    assert memory_limits({GPU: "0"}, "auto", solver=601).host == 399


def test_free_memory_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  90 kB\nMemAvailable:   50 kB\n")
    monkeypatch.setattr(lora_da.system.memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(lora_da.system.memory, "_CGROUP", tmp_path)
    assert free_bytes(CPU) == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("9000\n")
    assert free_bytes(CPU) == 50 * 1024
    (tmp_path / "memory.max").write_text("30000\n")  # what a container may use
    assert free_bytes(CPU) == 21000
    monkeypatch.setattr(lora_da.system.memory, "_MEMINFO", tmp_path / "none")
    assert free_bytes(CPU) > 2**28
