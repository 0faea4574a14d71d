from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da.statistics.accumulator import Accumulator, Place
from lora_da.statistics.products import gram

COUNT = 4000


def addends() -> list[Tensor]:
    """All of one sign, as in the factors' diagonals, where rounding errors don't cancel."""
    generator = torch.Generator().manual_seed(0)
    return [1 + 1e-3 * torch.rand(3, 5, generator=generator) for _ in range(COUNT)]


def summed(accumulator: Accumulator, device: str = "cpu") -> Tensor:
    sums: dict[str, Tensor] = {}
    for addend in addends():
        accumulator.add(sums, "sum", addend.to(device))
    accumulator.finish()
    return sums["sum"]


def error(found: Tensor) -> float:
    exact = torch.stack(addends()).double().sum(0)
    return float(((found.cpu().double() - exact) / exact).abs().max())


def test_compensated_sums_are_right_to_the_last_digits() -> None:
    plain, compensated = error(summed(Accumulator())), error(summed(Accumulator(compensated=True)))
    assert plain > 1e-6
    assert compensated < 1e-7  # float32's own rounding of the result is 6e-8


def test_float64_needs_no_compensation() -> None:
    sums: dict[str, Tensor] = {}
    accumulator = Accumulator(compensated=True)
    for addend in addends():
        accumulator.add(sums, "sum", addend.double())
    assert error(sums["sum"]) < 1e-14


def test_two_million_tokens_lose_no_precision() -> None:
    generator = torch.Generator().manual_seed(1)
    sums: dict[str, Tensor] = {}
    accumulator, exact = Accumulator(compensated=True), torch.zeros(8, 8, dtype=torch.float64)
    for _ in range(1000):
        tokens = 0.5 + torch.randn(2000, 8, generator=generator)
        accumulator.add(sums, "input", gram(tokens, torch.float32))
        exact += gram(tokens, torch.float64)
    assert float(((sums["input"].double() - exact) / exact).abs().max()) < 3e-7


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("compensated", [False, True])
@pytest.mark.gpu
def test_on_a_gpu(place: Place, compensated: bool) -> None:
    found = summed(Accumulator(place, compensated=compensated), "cuda")
    assert found.device.type == ("cuda" if place == "device" else "cpu")
    assert torch.equal(found.cpu(), summed(Accumulator(compensated=compensated)))
