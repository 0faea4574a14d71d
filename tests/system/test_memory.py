from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lora_da.system.memory
from lora_da.system.memory import format_size, free_bytes, parse_size, peak_memory, reset_peak_memory

CPU = torch.device("cpu")


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


def test_sizes_in_words() -> None:
    assert [format_size(size) for size in (3 * 2**29, 3 * 2**19, 1536)] == ["1.50 GiB", "1.5 MiB", "1.5 KiB"]


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
