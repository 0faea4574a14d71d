"""Sums that are statistics pass, however far their entries lie apart; what can't be any is in ``attacks``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da.statistics.products import gram
from lora_da.statistics.validity import find_fault, is_sum_of_squares


def vectors(seed: int, tokens: int, width: int, lowest: float, highest: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(lowest, highest, width)[torch.randperm(width, generator=generator)]
    return torch.randn(tokens, width, generator=generator) * sizes


@pytest.mark.parametrize(("lowest", "highest"), [(0, 0), (-25, 4), (-30, 15), (-3, 16), (-44, -18)])
@pytest.mark.parametrize("tokens", [1, 7, 3000])
@pytest.mark.parametrize("blocks", [16, 256])
def test_sums_of_squares_pass_though_entries_vanish_or_cancel(
    lowest: float, highest: float, tokens: int, blocks: int
) -> None:
    for seed in range(3):
        a = vectors(seed, tokens, 60, lowest, highest)
        a[1::2] = -a[1::2] + 1e-3 * a[: len(a[1::2])]
        sums = gram(a, torch.float32, blocks)
        assert is_sum_of_squares(sums)
        assert is_sum_of_squares(a.T @ a)
        assert is_sum_of_squares(sums.double())
        assert find_fault(sums[:5], sums, sums.diagonal()[:5], tokens, 1) is None


@pytest.mark.parametrize("rows", [10, 1500])
def test_one_asymmetric_entry_is_found(rows: int) -> None:
    a = vectors(0, 200, rows, -1, 1)
    sums = a.T @ a
    sums[rows - 1, 0] += 0.01 * (sums[0, 0] * sums[-1, -1]).sqrt()
    assert not is_sum_of_squares(sums)
    assert not is_sum_of_squares(torch.tensor([1.0, -1e-9]))
    assert is_sum_of_squares(torch.tensor([1.0, 0.0]))
