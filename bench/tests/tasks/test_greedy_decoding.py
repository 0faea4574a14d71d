"""Greedy generation against a plain loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_da_bench.tasks.greedy_decoding import continue_prompts

PROMPTS = ["Once upon a time", "Lily", "The little dog was very happy because he", "One day, Tom and his mom went"]


@pytest.fixture(scope="module")
def tiny_folder() -> Path:
    root = os.environ.get("LORA_DA_DATA")
    if root is None:
        pytest.skip("LORA_DA_DATA is not set: no tiny model to load")
    folder = Path(root).parent / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("there is no models/stories260K beside $LORA_DA_DATA")
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> Iterator[tuple[Any, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for one another cost far more than this small model
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    yield model, AutoTokenizer.from_pretrained(tiny_folder)
    torch.set_num_threads(threads)


def _continue_alone(model: Any, tokenizer: Any, prompt: str, steps: int) -> str:
    """Greedy continuation by the definition: no cache, no padding, one token at a time."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True))


def test_generate_equals_plain_greedy_at_every_batch_size(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = [_continue_alone(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert all(expected)
    for batch_size in (1, 3, 4):
        assert continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=batch_size) == expected


def test_generate_overrules_the_models_configuration(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = continue_prompts(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2)
    model.generation_config.update(do_sample=True, temperature=1.7, top_p=0.5, top_k=3, repetition_penalty=3.0)
    model.generation_config.no_repeat_ngram_size = 1
    assert continue_prompts(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2) == expected


def test_generate_with_an_adapter(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = continue_prompts(model, tokenizer, PROMPTS[:2], max_new_tokens=6, batch_size=2)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], lora_dropout=0.5))
    assert continue_prompts(adapted, tokenizer, PROMPTS[:2], max_new_tokens=6, batch_size=2) == expected
    assert adapted.training


def test_generate_stops_at_the_end_token(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    whole = continue_prompts(model, tokenizer, PROMPTS[:1], max_new_tokens=12, batch_size=1)[0]
    start = len(tokenizer(PROMPTS[0])["input_ids"])
    comma = next(
        token for token in tokenizer(PROMPTS[0] + whole)["input_ids"][start:] if tokenizer.decode([token]) == ","
    )
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, comma]
    texts = continue_prompts(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2)
    assert texts[0] == whole.split(",")[0]
    assert len(texts[1]) > 0


def test_generate_needs_no_padding_token_and_changes_nothing(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4)
    tokenizer.pad_token = None
    model.train()
    model.model.layers[0].eval()
    assert continue_prompts(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4) == expected
    assert tokenizer.pad_token is None
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert continue_prompts(model, tokenizer, [], max_new_tokens=6, batch_size=4) == []
