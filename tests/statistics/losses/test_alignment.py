from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lora_da.statistics.losses.alignment import find_alignment, find_predicting_positions
from models import tiny_bert, tiny_gpt2, tiny_llama, tiny_opt, tiny_t5, tiny_vit


@pytest.mark.parametrize(
    ("make", "alignment"),
    [
        (tiny_llama, "shifted"),
        (tiny_gpt2, "shifted"),
        (tiny_opt, "shifted"),
        (tiny_t5, "aligned"),
        (tiny_bert, "example"),
        (tiny_vit, "example"),
    ],
)
def test_alignment_by_architecture(make: Any, alignment: str) -> None:
    assert find_alignment(make()) == alignment


def test_alignment_of_masked_and_token_models() -> None:
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    assert find_alignment(transformers.BertForMaskedLM(config)) == "aligned"
    assert find_alignment(transformers.BertForTokenClassification(config)) == "aligned"
    with pytest.raises(ValueError, match=r"the loss of BertForQuestionAnswering is not known.*Give example_loss"):
        find_alignment(transformers.BertForQuestionAnswering(config))
    with pytest.raises(ValueError, match="the loss of Linear is not known"):
        find_alignment(nn.Linear(2, 2))


def test_predicting_positions() -> None:
    labels = torch.tensor([[-100, -100, 5, 6], [7, -100, 8, -100]])
    shifted = [[False, True, True, False], [False, True, False, False]]
    assert find_predicting_positions(labels, "shifted").tolist() == shifted
    assert find_predicting_positions(labels, "aligned").tolist() == (labels != -100).tolist()
