"""What the solver and one pass cost, beside a known amount of work in the same process: `make benchmark`.

The two tests of a group are run one after the other; `history.py` divides their times.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import LlamaConfig, LlamaForCausalLM

from lora_da import LoraDAConfig, collect_statistics, solve_layer
from widths import synthetic_statistics

WIDTHS = (512, 1024)
RANK = 8


@pytest.fixture(scope="module")
def model() -> Any:
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(4096, (8, 128), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


@pytest.mark.benchmark(group="one pass / forward and backward with weight gradients")
def test_plain_pass(benchmark: BenchmarkFixture, model: Any, batch: dict[str, torch.Tensor]) -> None:
    def forward_and_backward() -> None:
        model(**batch).loss.backward()
        model.zero_grad()

    benchmark(forward_and_backward)


@pytest.mark.benchmark(group="one pass / forward and backward with weight gradients")
def test_one_pass(benchmark: BenchmarkFixture, model: Any, batch: dict[str, torch.Tensor]) -> None:
    found = benchmark(collect_statistics, model, [batch], LoraDAConfig().collection, progress=False)
    assert found.examples == 8


@pytest.mark.parametrize("width", WIDTHS)
def test_eigh(benchmark: BenchmarkFixture, width: int) -> None:
    benchmark.group = f"solve / one float64 eigh, width {width}"
    matrix = synthetic_statistics(width).input_sum.double()
    benchmark(torch.linalg.eigh, matrix)


@pytest.mark.parametrize("width", WIDTHS)
def test_solve(benchmark: BenchmarkFixture, width: int) -> None:
    benchmark.group = f"solve / one float64 eigh, width {width}"
    found = benchmark(solve_layer, synthetic_statistics(width), RANK, LoraDAConfig(population_size=7473))
    assert found.A.shape == (RANK, width)
