from __future__ import annotations

import sys

import pytest
import torch

from lora_da.experiments.memory import peak_memory

_SIZE = 200 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be reset on Linux only")
def test_the_peak_of_a_block_is_its_own() -> None:
    with peak_memory(torch.device("cpu")) as large:
        torch.ones(_SIZE, dtype=torch.uint8)
    with peak_memory(torch.device("cpu")) as small:
        pass
    assert large.bytes is not None
    assert small.bytes is not None
    # The earlier, larger peak does not count in the later block.
    assert 0.9 * _SIZE < large.bytes - small.bytes < 1.5 * _SIZE
