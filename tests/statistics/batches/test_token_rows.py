from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da.statistics.batches.token_rows import Positions, decoder_positions

MASK = torch.tensor([[True, True, False], [True, True, True]])


def _list(rows: Tensor | None) -> list[int] | None:
    return None if rows is None else rows.tolist()


def test_padding_is_left_out_by_index() -> None:
    rows = Positions(2, MASK).rows("layer", torch.Size([2, 3, 5]))
    assert _list(rows.attended) == [0, 1, 3, 4, 5]
    assert rows.counted is None


def test_flattened_inputs_have_the_same_rows() -> None:
    assert _list(Positions(2, MASK).rows("layer", torch.Size([6, 5])).attended) == [0, 1, 3, 4, 5]


def test_without_padding_all_rows_are_taken_unindexed() -> None:
    for mask in (None, torch.ones(2, 3, dtype=torch.bool)):
        rows = Positions(2, mask).rows("layer", torch.Size([2, 3, 5]))
        assert rows.attended is None
        assert rows.counted is None


def test_counted_positions_predict_and_are_attended() -> None:
    predicting = torch.tensor([[False, True, True], [True, False, False]])
    rows = Positions(2, MASK, predicting).rows("layer", torch.Size([2, 3, 5]))
    assert _list(rows.attended) == [0, 1, 3, 4, 5]
    assert _list(rows.counted) == [1, 3]
    rows = Positions(2, None, predicting).rows("layer", torch.Size([2, 3, 5]))
    assert rows.attended is None
    assert _list(rows.counted) == [1, 2, 3]


def test_behind_a_pooling_every_example_counts() -> None:
    rows = Positions(2, MASK).rows("pooler", torch.Size([2, 5]))
    assert rows.attended is None
    assert rows.counted is None


def test_other_row_numbers_pass_only_without_padding() -> None:
    assert Positions(2, None).rows("expert", torch.Size([4, 5])).attended is None
    with pytest.raises(ValueError, match=r"layer expert has an input of shape \(4, 5\).*2 examples.*\(2, 3\)"):
        Positions(2, MASK).rows("expert", torch.Size([4, 5]))
    with pytest.raises(ValueError, match="layer pooler"):
        Positions(2, MASK, MASK).rows("pooler", torch.Size([2, 5]))


def test_a_decoder_is_masked_by_its_labels() -> None:
    labels = torch.tensor([[4, -100, 5, -100], [4, 5, 6, 7]])
    positions = decoder_positions({"labels": labels}, 2, None)
    # A hole amid the labels is attended: a label stands behind it.
    assert _list(positions.rows("layer", torch.Size([2, 4, 3])).attended) == [0, 1, 2, 4, 5, 6, 7]


def test_a_decoders_own_mask_comes_first() -> None:
    labels, mask = torch.tensor([[4, 5, -100]]), torch.tensor([[0, 1, 1]])
    positions = decoder_positions({"labels": labels, "decoder_attention_mask": mask}, 1, None)
    assert _list(positions.rows("layer", torch.Size([1, 3, 3])).attended) == [1, 2]


def test_a_decoder_without_labels_has_no_padding() -> None:
    assert decoder_positions({}, 2, None).rows("layer", torch.Size([2, 3, 3])).attended is None
