from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da.statistics.products import gram, product


def vectors(width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(40, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_of_low_precision_are_exact(dtype: torch.dtype) -> None:
    left, right = vectors(5, 0, dtype), vectors(7, 1, dtype)
    wanted = left.double().mT @ right.double()
    torch.testing.assert_close(product(left, right, torch.float32).double(), wanted, rtol=1e-5, atol=1e-5)
    assert product(left, right, torch.float64).dtype == torch.float64
    torch.testing.assert_close(product(left, right, torch.float64), wanted, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("block", [1, 3, 4, 11, 12, 50, None])
def test_blocks_make_the_whole(block: int | None) -> None:
    x = vectors(11, 2)
    found = gram(x, torch.float64, block)
    torch.testing.assert_close(found, x.double().mT @ x.double(), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found, found.mT, rtol=1e-14, atol=0)


def test_without_tokens_there_is_nothing() -> None:
    assert not gram(vectors(3, 0)[:0], torch.float32).any()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    left, right = vectors(64, 0, dtype), vectors(72, 1, dtype)
    wanted = left.double().mT @ right.double()
    found = product(left.cuda(), right.cuda(), torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        gram(left.cuda(), torch.float32, 24).cpu().double(), left.double().mT @ left.double(), rtol=1e-4, atol=1e-4
    )
