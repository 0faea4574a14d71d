"""Sums that are statistics pass, however far their entries lie apart; what can't be any is in ``attacks``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lora_da import collect_statistics
from lora_da.statistics.halves import Half
from lora_da.statistics.products import gram
from lora_da.statistics.validity import check_sums, find_fault, is_finite, is_sum_of_squares
from models import batches_of, causal_examples, tiny_llama


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3e38])
@pytest.mark.parametrize("place", [0, 17, 5 * 7 - 1])
def test_one_entry_that_is_not_finite_is_found(value: float, place: int) -> None:
    for tensor in (torch.zeros(5, 7), torch.randn(5, 7, dtype=torch.float64)):
        tensor.view(-1)[place] = value
        assert is_finite(tensor) == bool(tensor.isfinite().all()) == (value == 3e38)
    assert is_finite(torch.zeros(0, 4))


def test_entries_of_a_known_input_sum_are_not_looked_at_again() -> None:
    sums = torch.eye(3), torch.eye(3) * float("nan"), torch.ones(3)
    assert find_fault(*sums, 1, 1) == "the input factor is not finite"
    assert find_fault(*sums, 1, 1, input_known=True) is None
    assert "the input factor has the shape" in str(find_fault(torch.eye(4), *sums[1:], 1, 1, input_known=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda half: dataclasses.replace(half, examples=5), "the number of examples in one half of 4 is 5"),
        (lambda half: dataclasses.replace(half, examples=True), "the number of examples in one half of 4 is True"),
        (lambda half: half_of(half, lambda tensor: tensor[:, :-1]), "is not like that of all, in layer model.layers.0"),
        (lambda half: half_of(half, Tensor.double), "is not like that of all"),
        (lambda half: half_of(half, lambda tensor: tensor / 0), "is not finite in layer"),
        (lambda half: Half({"other": torch.ones(2, 2)}, 2), "is not like that of all, in layer other"),
    ],
)
def test_a_half_must_be_a_part_of_the_whole(change: Callable[[Half], Half], reason: str) -> None:
    found = collect_statistics(tiny_llama(), batches_of(causal_examples(4), 2), progress=False)
    check_sums(found)
    with pytest.raises(ValueError, match=reason):
        check_sums(dataclasses.replace(found, half=change(found.half)))


def half_of(half: Half, change: Callable[[Tensor], Tensor]) -> Half:
    return Half({name: change(tensor) for name, tensor in half.gradient_sums.items()}, half.examples)
