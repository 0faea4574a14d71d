from __future__ import annotations

import pytest
import torch

from laboratory.made_samples import sample_of
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators import noise
from lora_da_bench.laboratory.estimators.noise import NoiseEdge, measure_noise
from lora_da_bench.laboratory.estimators.sample import collect_samples
from models import VOCABULARY, tiny_llama
from oracles import randn

BLOCKS = torch.randint(3, VOCABULARY, (10, 6), generator=torch.Generator().manual_seed(0))
EXAMPLES = Examples(BLOCKS, torch.ones_like(BLOCKS))


def test_a_half_difference_is_that_of_two_gradients() -> None:
    """Of the two halves' own samples, taken apart by the library."""
    model = tiny_llama()
    layers = list(collect_samples(model, EXAMPLES, 1, 0))
    signs = torch.tensor([[1, -1] * 5, [1] * 5 + [-1] * 5]).double()
    found = noise._half_differences(model, EXAMPLES, layers, signs)
    for row, own in enumerate(signs):
        first, second = (collect_samples(model, EXAMPLES[own == sign], 1, 0) for sign in (1, -1))
        for name in layers:
            expected = (first[name].gradient - second[name].gradient) / 2
            torch.testing.assert_close(found[name][row], expected, rtol=1e-3, atol=1e-5)


def test_white_noise_ends_where_the_formula_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent tokens and outputs, without a gradient: both edges agree, and nothing is real beyond either."""
    a, g = randn(0, 400, 1, 60) * torch.linspace(0.2, 2, 60, dtype=torch.float64), randn(1, 400, 1, 40) * 3
    monkeypatch.setattr(noise, "see_layers", lambda *_: iter([{"layer": (a, g)}]))
    ids = torch.zeros(400, 2, dtype=torch.long)
    edge = measure_noise(None, Examples(ids, ids), {"layer": sample_of(a, g)}, 0.0, 30, seed=1)["layer"]
    assert edge.formula == pytest.approx((40**0.5 + 60**0.5) / 20)
    # Y is damped by a tenth of its mean, which makes everything smaller by √1.1.
    assert edge.median * 1.1**0.5 == pytest.approx(edge.formula, rel=0.1)
    assert edge.measured[0] < edge.median < edge.highest < 1.1 * edge.median
    assert edge.count_above(edge.formula) == 0
    assert edge.count_above(edge.highest) <= 1


def test_tokens_that_repeat_are_more_noise() -> None:
    """Each example one token four times: its gradient is four times one's, and the formula believes in twice."""
    a, g = randn(0, 400, 1, 30).expand(-1, 4, -1), randn(1, 400, 1, 20).expand(-1, 4, -1)
    sample = sample_of(a, g)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(200)
    difference = torch.einsum("s,slo,sli->oi", signs, g, a)[None] / 400
    edge = noise._find_edge(sample, difference, 0.0)
    assert edge.median * 1.1**0.5 == pytest.approx(2 * edge.formula, rel=0.1)


def test_directions_above_an_edge() -> None:
    edge = NoiseEdge(1.0, torch.tensor([0.5, 1.5, 2.0]), torch.tensor([3.0, 1.7, 1.2, 0.9]))
    assert [edge.count_above(value) for value in (edge.formula, edge.median)] == [3, 2]
    with pytest.raises(ValueError, match="9 examples have no halves"):
        measure_noise(tiny_llama(), EXAMPLES[:9], {}, 1.0, 2, seed=0)
