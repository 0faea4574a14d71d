from __future__ import annotations

import pytest
import torch

from lora_da.statistics.batches.token_rows import TokenPositions, TokenRows, find_decoder_mask

MASK = torch.tensor([[True, True, False], [True, True, True]])


@pytest.mark.parametrize("shape", [(2, 3, 5), (6, 5)])
def test_padding_is_left_out_by_index(shape: tuple[int, ...]) -> None:
    rows = TokenPositions(2, MASK).find_rows("layer", torch.Size(shape))
    assert rows.tokens is not None
    assert rows.padding is not None
    assert rows.tokens.tolist() == [0, 1, 3, 4, 5]
    assert rows.padding.tolist() == [2]
    assert rows.of(torch.arange(6.0)[:, None]).flatten().tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("mask", [None, torch.ones(2, 3, dtype=torch.bool)])
def test_without_padding_all_rows_are_taken_unindexed(mask: torch.Tensor | None) -> None:
    for shape in ((2, 3, 5), (4, 5)):  # without padding it does not matter what rows stand for
        rows = TokenPositions(2, mask).find_rows("layer", torch.Size(shape))
        assert rows == TokenRows()
        matrix = torch.zeros(6, 5)
        assert rows.of(matrix) is matrix


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


def test_behind_a_pooling_every_example_counts_and_other_numbers_are_refused() -> None:
    assert TokenPositions(2, MASK).find_rows("pooler", torch.Size([2, 5])) == TokenRows()
    with pytest.raises(ValueError, match=r"layer odd has an input of shape \(4, 5\).*2 rows.*\(2, 3\)"):
        TokenPositions(2, MASK).find_rows("odd", torch.Size([4, 5]))


def test_a_decoder_is_masked_by_its_labels_if_it_has_no_mask() -> None:
    labels = torch.tensor([[4, -100, 5, -100], [4, 5, 6, 7]])
    mask = find_decoder_mask({}, labels)
    assert mask is not None
    # A hole amid the labels is attended: a label stands behind it.
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    own = find_decoder_mask({"decoder_attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])}, labels)
    assert own is not None
    assert own.tolist()[0] == [False, True, True, True]
    assert find_decoder_mask({}, None) is None
