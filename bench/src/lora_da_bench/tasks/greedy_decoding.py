"""What a model writes: greedy continuations of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from lora_da_bench.tasks.item_losses import evaluation_mode


def continue_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int
) -> list[str]:
    """Continue prompts greedily, up to the end-of-sequence token.

    Sampling, beams and penalties of the model's own generation configuration are overruled.

    Args:
        model: A Hugging Face causal language model or a PEFT model around one; its modes are as before afterwards.
        tokenizer: Its tokenizer; a padding token is not needed.
        prompts: The texts to continue.
        max_new_tokens: Most tokens to write for each.
        batch_size: Prompts handled at once.

    Returns:
        The new text for each prompt, in the order of ``prompts``, without special tokens.

    Raises:
        ValueError: If a prompt has no tokens.
    """
    encoded = [_prompt_ids(tokenizer, prompt, index) for index, prompt in enumerate(prompts)]
    ends = _end_tokens(model, tokenizer)
    # Each neutral value is written out, as the model's own configuration fills in whatever is left unset.
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, temperature=1.0, top_p=1.0, top_k=50,
        repetition_penalty=1.0, no_repeat_ngram_size=0, use_cache=True, eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,  # masked before the prompt, cut off after the answer
    )  # fmt: skip
    # Longest first: batches need little padding, and memory runs out in the first one if at all.
    order = sorted(range(len(prompts)), key=lambda index: -len(encoded[index]))
    answers = [""] * len(prompts)
    with evaluation_mode(model), torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows = [encoded[index] for index in chosen]
            width = len(rows[0])
            ids = torch.tensor([[greedy.pad_token_id] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            device = next(model.parameters()).device
            output = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=greedy)
            for index, new in zip(chosen, output[:, width:].tolist(), strict=True):
                stop = next((place for place, token in enumerate(new) if token in ends), len(new))
                answers[index] = tokenizer.decode(new[:stop], skip_special_tokens=True)
    return answers


def _prompt_ids(tokenizer: Any, prompt: str, index: int) -> list[int]:
    ids = list(tokenizer(prompt)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:  # of a tokenizer that ends every text with EOS
        ids.pop()
    if not ids:
        raise ValueError(f"Prompt {index} has no tokens; there is nothing to continue.")
    return ids


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    others = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (tokenizer.eos_token_id, *others) if token is not None})
