"""What runs of small models tell of their modules' inputs; whole models are in ``test_locator``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.padding.axis import find_axes
from lora_da.statistics.batches.padding.layout import Layout, Unplaced
from lora_da.statistics.batches.padding.probe import Probe, ancestors_of
from models import Example, Positionwise, causal_examples, collate, tiny_llama

BATCH: Example = collate(causal_examples(4))


class Beside(Positionwise):
    """Beside its tokens it reads the first token of each example, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(1, 5, 6))
        self.pooled, self.fixed = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        output = super().forward(input_ids)
        pooled = self.pooled(self.embedding(input_ids[:, 0]))
        output.logits = output.logits + self.head(pooled + self.fixed(self.table).mean((0, 1)))[:, None]
        return output


def test_tokens_examples_and_tables_are_told_apart() -> None:
    torch.manual_seed(0)
    model = Beside().eval()
    probe = Probe(model, model, torch.device("cpu"))
    modules = [model.once, model.twice, model.pooled, model.fixed, nn.Linear(2, 2)]
    found = probe.find_layouts(modules, BATCH, find_axes(model, BATCH, None))
    assert list(found) == modules[:-1]  # the last one is not called
    (once,), (pooled,), (fixed,) = (found[module] for module in (model.once, model.pooled, model.fixed))
    assert isinstance(once, Layout)
    assert (once.positions, once.examples, once.before, once.after) == (1, 0, 0, 0)
    assert found[model.twice] == (once, once)  # of two calls
    assert pooled is Unplaced.EXAMPLE
    assert fixed is Unplaced.OFF


def test_an_example_by_itself_has_no_padding() -> None:
    model = tiny_llama()
    layer, axes = model.model.layers[0].self_attn.q_proj, find_axes(model, BATCH, None)
    probe = Probe(model, model, torch.device("cpu"))
    for row, length in enumerate(BATCH["attention_mask"].sum(1).tolist()):
        (call,) = probe.count_alone([layer], BATCH, axes[0], row)[layer]
        assert call.shape == (1, length)


def test_the_modules_around_one() -> None:
    model = tiny_llama()
    block = model.model.layers[1]
    around = ancestors_of(model, [block.mlp.up_proj, model.lm_head])
    assert around == {block.mlp.up_proj: [block.mlp, block, model.model.layers, model.model], model.lm_head: []}
