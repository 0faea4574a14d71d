from __future__ import annotations

import itertools

import pytest
import torch

from lora_da import Statistics, collect_statistics
from lora_da.statistics.halves import Half, choose_halved
from models import batches_of, causal_examples, tiny_llama

EXAMPLES = causal_examples(9)


def _collect(first: int = 0, last: int = 9, batch_size: int = 2) -> Statistics:
    return collect_statistics(tiny_llama().double(), batches_of(EXAMPLES[first:last], batch_size), progress=False)


@pytest.mark.parametrize(("batch_size", "examples"), [(1, 4), (2, 4), (4, 4), (5, 5), (9, 0)])
def test_a_half_is_what_its_examples_alone_give(batch_size: int, examples: int) -> None:
    found = _collect(batch_size=batch_size)
    assert found.half.examples == examples
    if examples:
        wanted = _collect(last=examples)
        assert found.half.gradient_sums.keys() == set(found.layers)  # so few that all are kept
        for name, tensor in found.half.gradient_sums.items():
            torch.testing.assert_close(tensor, wanted.gradient_sums[name], rtol=1e-12, atol=1e-14)
            assert found[name].half_sum is tensor
            assert found[name].half_examples == examples
    else:
        assert found[found.layers[0]].half_sum is None


def test_halves_add_as_their_samples_do() -> None:
    first, second = _collect(0, 4), _collect(4, 9)
    both = (first + second).half
    assert both.examples == first.half.examples + second.half.examples == 4
    name = first.layers[3]
    assert torch.equal(both.gradient_sums[name], first.half.gradient_sums[name] + second.half.gradient_sums[name])
    whole = _collect(0, 4, batch_size=4)
    assert (whole + second).half is second.half  # of the first four none is in this half
    other = Half({name: torch.ones(2, 2)}, 3) + Half({"other": torch.ones(2, 2)}, 3)
    assert other.gradient_sums == {}


@pytest.mark.parametrize("count", [1, 5, 16, 17, 210])
def test_halved_layers_are_spread_over_all(count: int) -> None:
    layers = [str(index) for index in range(count)]
    chosen = sorted(map(int, choose_halved(layers)))
    assert len(chosen) == min(count, 16)
    steps = {later - earlier for earlier, later in itertools.pairwise(chosen)}
    assert max(steps, default=1) - min(steps, default=1) <= 1
    assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1
