from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from lora_da.statistics.batches.positions import PositionCheck
from models import VOCABULARY, causal_examples, collate, positionwise, tiny_bert, tiny_gpt2, tiny_llama, tiny_opt


def _needed(model: Any, batch: dict[str, Any]) -> bool:
    return PositionCheck(model, model, torch.device("cpu")).needed(batch)


def tiny_roberta() -> Any:
    """It counts positions itself, from the padding id, and begins behind it."""
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=1,
    )
    return transformers.RobertaForMaskedLM(config).eval()


@pytest.mark.parametrize(
    ("make", "padding", "needed"),
    [
        (tiny_gpt2, 0, True),
        (tiny_llama, 0, True),
        (tiny_roberta, 1, False),
        (tiny_opt, 0, True),
        (positionwise, 0, False),
    ],
)
def test_positions_are_derived_where_padding_on_the_left_would_move_them(make: Any, padding: int, needed: bool) -> None:
    examples = causal_examples(4)
    model = make()
    assert _needed(model, collate(examples, "left", padding)) is needed
    assert not _needed(model, collate(examples, "right", padding))


def test_what_a_batch_gives_is_left_alone() -> None:
    batch = collate(causal_examples(4), "left")
    batch["position_ids"] = torch.zeros_like(batch["input_ids"])
    assert not _needed(tiny_gpt2(), batch)


def test_a_classifier_that_pools_the_first_token_sees_the_padding_either_way() -> None:
    assert not _needed(tiny_bert(), collate(causal_examples(4), "left"))
