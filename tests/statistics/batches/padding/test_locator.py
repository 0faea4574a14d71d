"""Token rows of whole models, compared with what their modules receive of single examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da import collect_statistics
from lora_da.statistics.batches.padding.locator import TokenLocator
from models import (
    VOCABULARY,
    Positionwise,
    batches_of,
    causal_examples,
    collate,
    tiny_llama,
    tiny_t5,
    translated_examples,
)


class Mixed(Positionwise):
    """Beside its tokens it reads a table of as many rows as the batch has positions, and picks some of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.positions, self.picked = nn.Parameter(torch.ones(32, 6)), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        output = super().forward(input_ids.T)
        rows = output.logits.transpose(0, 1)
        hidden = self.embedding(input_ids).flatten(0, 1)
        extra = torch.zeros_like(hidden).index_put((hidden[:, 0] > 0,), self.picked(hidden[hidden[:, 0] > 0]))
        output.logits = rows + self.head(extra.view(*input_ids.shape, -1) + self.positions(self.table).mean(0))
        return output


def test_each_layer_counts_its_own_tokens() -> None:
    torch.manual_seed(0)
    model, examples = Mixed().eval(), causal_examples(4)
    batch = collate(examples)
    tokens = sum(len(example["input_ids"]) for example in examples)
    with pytest.warns(UserWarning, match=r"layer\(s\) receive what does not lie along .*: all rows of their inputs"):
        found = collect_statistics(model, [batch], progress=False)
    assert found.tokens["once"] == tokens  # whose sequences come first
    assert found.tokens["positions"] == 32
    assert "positions" in found.wholly_counted
    assert "once" not in found.wholly_counted


@pytest.mark.parametrize("make", [tiny_llama, tiny_t5])
def test_ordinary_models_have_no_layer_that_counts_wholly(make: Any) -> None:
    data = translated_examples if make is tiny_t5 else causal_examples
    for side in ("left", "right"):
        assert collect_statistics(make(), batches_of(data(6), 3, side), progress=False).wholly_counted == ()


def test_one_example_needs_no_run_of_the_model() -> None:
    model = tiny_llama()
    layers = {"layer": model.model.layers[0].self_attn.q_proj}
    locator = TokenLocator(model, model, torch.device("cpu"), layers)
    model.forward = None  # which would fail
    ids = torch.randint(3, VOCABULARY, (1, 5))
    with locator.locate({"input_ids": ids, "attention_mask": torch.ones_like(ids)}) as rows_of:
        assert rows_of("layer", torch.zeros(1, 5, 16)).tokens is None
