"""Tokens that a tokenizer has and a model has not are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from lora_da.loading.vocabulary import check_vocabulary
from models import tiny_llama


def test_tokens_that_the_model_does_not_embed(folder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    size = len(tokenizer)
    model = tiny_llama(vocab_size=size)
    tokenizer.add_tokens(["<new>"])
    check_vocabulary(model, tokenizer, {"input_ids": [[0, size - 1], []]})
    with pytest.raises(ValueError, match=f"the token '<new>' with the id {size}, and the model embeds {size}"):
        check_vocabulary(model, tokenizer, {"input_ids": [[0], tokenizer("a<new>").input_ids]})
    tokenizer.pad_token = "<new>"
    with pytest.raises(ValueError, match="'<new>'"):
        check_vocabulary(model, tokenizer, {"input_ids": [[0]]})
    model.resize_token_embeddings(len(tokenizer))
    check_vocabulary(model, tokenizer, {"input_ids": [[size]]})
