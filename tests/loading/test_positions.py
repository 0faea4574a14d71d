"""How many positions models have a table of, against the error that the next one gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM, RobertaConfig, RobertaForCausalLM

from lora_da.loading.positions import check_positions, find_position_count
from models import tiny_bert, tiny_gpt2, tiny_llama, tiny_opt

SMALL: dict[str, Any] = {"vocab_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def tiny_roberta() -> Any:
    config = RobertaConfig(**SMALL, hidden_size=8, intermediate_size=8, max_position_embeddings=13, is_decoder=True)
    return RobertaForCausalLM(config)


def tiny_gptj() -> Any:
    return GPTJForCausalLM(GPTJConfig(vocab_size=24, n_positions=11, n_embd=8, n_layer=1, n_head=2, rotary_dim=2))


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_opt, tiny_bert, tiny_roberta, tiny_gptj])
def test_one_position_more_than_the_table_has(make: Callable[[], Any]) -> None:
    model = make().eval()
    count = find_position_count(model)
    assert count is not None
    model(input_ids=torch.full((1, count), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, count + 1), 5))
    check_positions(model, count)
    with pytest.raises(
        ValueError, match=f"has {count + 1} tokens, and the model positions for {count}: give --max-leng"
    ):
        check_positions(model, count + 1)


def test_positions_that_are_computed_have_no_end() -> None:
    assert find_position_count(tiny_llama(max_position_embeddings=8)) is None
    check_positions(tiny_llama(max_position_embeddings=8), 100)
