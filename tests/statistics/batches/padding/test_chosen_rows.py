from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from lora_da.statistics.batches.padding.chosen_rows import ChosenRows
from lora_da.statistics.batches.token_rows import TokenRows

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
ROWS = TokenRows.where(torch.tensor([True, True, False, True, False, True]))


class Block(nn.Module):
    """Gives some of its rows, in another order, to an expert of two layers."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.expert, self.places = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4)), places

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.expert(hidden[self.places])
        return output


def _found(block: Block, hidden: torch.Tensor, *, told: bool = True) -> list[TokenRows | None]:
    layers = list(block.expert)
    chosen = ChosenRows({layer: [block.expert, block] for layer in layers})
    found = []
    with ExitStack() as hooks:
        chosen.attach(hooks, lambda _module, _input: (ROWS, told))
        for layer in layers:
            layer.register_forward_pre_hook(lambda module, args: found.append(chosen.find(module, args[0])))
        block(hidden)
    return found


def test_layers_of_an_expert_are_told_which_of_its_rows_are_tokens() -> None:
    for rows in _found(Block([4, 5, 0, 2]), X):
        assert rows is not None
        assert rows.tokens is not None
        assert rows.tokens.tolist() == [1, 2]


def test_rows_that_are_no_copies_or_of_both_kinds_are_not_told() -> None:
    alike = X.clone()
    alike[2] = alike[0]
    assert _found(Block([0, 1]), alike) == [None, None]
    assert _found(Block([0, 1]), X, told=False) == [None, None]
    chosen = ChosenRows({})
    assert chosen.find(nn.Linear(1, 1), X) is None
