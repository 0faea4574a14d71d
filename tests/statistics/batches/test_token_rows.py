from __future__ import annotations

import torch

from lora_da.statistics.batches.token_rows import TokenRows


def test_padding_is_left_out_by_index() -> None:
    rows = TokenRows.where(torch.tensor([True, True, False, True, True, True]))
    assert rows.tokens is not None
    assert rows.padding is not None
    assert rows.tokens.tolist() == [0, 1, 3, 4, 5]
    assert rows.padding.tolist() == [2]
    assert rows.of(torch.arange(6.0)[:, None]).flatten().tolist() == [0, 1, 3, 4, 5]


def test_without_padding_all_rows_are_taken_unindexed() -> None:
    matrix = torch.zeros(6, 5)
    assert TokenRows().of(matrix) is matrix


def test_padding_that_a_gradient_reaches_is_taken_in() -> None:
    rows = TokenRows.where(torch.tensor([True, False, False, True, False]))
    gradient = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, -2.0], [1.0, 1.0], [torch.nan, 1.0]])
    reached = rows.with_gradient(gradient).tokens
    assert reached is not None
    assert reached.tolist() == [0, 2, 3]
    assert rows.with_gradient(gradient * torch.tensor([[1.0], [1.0], [0.0], [1.0], [0.0]])) is rows
    assert TokenRows().with_gradient(gradient) == TokenRows()


def test_rows_that_a_module_has_chosen() -> None:
    rows = TokenRows.where(torch.tensor([True, False, True, True]))
    among = rows.among(torch.tensor([3, 1, 0]), 4)
    assert among.tokens is not None
    assert among.padding is not None
    assert (among.tokens.tolist(), among.padding.tolist()) == ([0, 2], [1])
    assert TokenRows().among(torch.tensor([1]), 4) == TokenRows()
