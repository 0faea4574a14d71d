from __future__ import annotations

import sys

import pytest
import torch

from lora_da.system.memory import peak_since, reset_peak

_SIZE = 200 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be reset on Linux only")
def test_the_peak_is_that_since_the_reset() -> None:
    device = torch.device("cpu")
    reset_peak(device)
    torch.ones(_SIZE, dtype=torch.uint8)
    large = peak_since(device)
    reset_peak(device)
    small = peak_since(device)
    assert large is not None
    assert small is not None
    # The earlier, larger peak does not count after the reset.
    assert 0.9 * _SIZE < large - small < 1.5 * _SIZE
