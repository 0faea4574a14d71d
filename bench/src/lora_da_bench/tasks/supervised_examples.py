"""Examples of language models, tokenised, masked and padded by TRL, as ``trl sft`` does it."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from typing import Any

import datasets
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

Collate = Callable[[list[dict[str, Any]]], dict[str, Tensor]]


def tokenize_examples(examples: datasets.Dataset, tokenizer: Any, max_length: int | None) -> datasets.Dataset:
    """Turn rows of TRL's formats into token ids and labels.

    Args:
        examples: With the columns ``prompt`` and ``completion``, whose completions alone are learnt, or ``text``.
        tokenizer: The model's; it is not changed.
        max_length: Tokens at which examples are cut; None cuts none.

    Returns:
        ``input_ids`` and ``labels``, in the order of the rows, without those that have no label within ``max_length``.
    """
    if len(examples) == 0:
        return datasets.Dataset.from_dict({"input_ids": [], "labels": []})
    with tempfile.TemporaryDirectory() as unused:
        arguments = SFTConfig(output_dir=unused, max_length=max_length, use_cpu=True, bf16=False, report_to="none")
        # TRL prepares data inside its trainer, which wants a model: the smallest, as the real one is none of its
        # business and may be quantised, which a trainer refuses.
        trainer: Any = SFTTrainer(
            _placeholder(), arguments, train_dataset=examples, processing_class=copy.deepcopy(tokenizer)
        )
    return trainer.train_dataset.select_columns(["input_ids", "labels"])


@functools.cache
def _placeholder() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=1, hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1)
    )


def padding_collator(tokenizer: Any) -> Collate:
    """Make TRL's collator, which pads on the right.

    Raises:
        ValueError: The tokenizer has neither a padding nor an EOS token.
    """
    collator: Collate = DataCollatorForLanguageModeling(find_padding_token(tokenizer))
    return collator


def find_padding_token(tokenizer: Any) -> int:
    """Find the id of the padding token, or of the EOS token in its place.

    Raises:
        ValueError: The tokenizer has neither.
    """
    pad: int | None = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad is None:
        raise ValueError("The tokenizer has neither a padding nor an EOS token to pad with; set tokenizer.pad_token.")
    return pad


def join_prompt(prompt: str, completion: str) -> str:
    """End a prompt by a line break where no whitespace would part it from its completion."""
    touching = prompt and not prompt[-1].isspace() and not completion[:1].isspace()
    return f"{prompt}\n" if touching else prompt
