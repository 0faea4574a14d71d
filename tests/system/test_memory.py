from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lora_da.system.memory
from lora_da.system.memory import free_bytes, peak_memory, reset_peak_memory

CPU = torch.device("cpu")


def test_free_memory_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=51_200))
    monkeypatch.setattr(lora_da.system.memory, "_CGROUP", tmp_path)
    assert free_bytes(CPU) == 51_200
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("9000\n")
    assert free_bytes(CPU) == 51_200
    (tmp_path / "memory.max").write_text("30000\n")  # what a container may use
    assert free_bytes(CPU) == 21_000


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be reset on Linux only")
def test_the_peak_is_that_since_the_reset() -> None:
    size = 200 * 2**20
    reset_peak_memory(CPU)
    torch.ones(size, dtype=torch.uint8)
    large = peak_memory(CPU)
    reset_peak_memory(CPU)
    small = peak_memory(CPU)
    assert large is not None
    assert small is not None
    # The earlier, larger peak does not count after the reset.
    assert 0.9 * size < large - small < 1.5 * size


def test_other_systems_tell_the_peak_since_the_process_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lora_da.system.memory, "_STATUS", tmp_path / "none")
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=7))
    monkeypatch.setattr("psutil.Process", lambda: windows)
    assert peak_memory(CPU) == 7
    windows.memory_info = lambda: SimpleNamespace()
    assert peak_memory(CPU) is None
