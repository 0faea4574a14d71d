"""A tiny model with a tokenizer, and data files, as folders on disk: what the command line works on."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
"""A GGUF file without settings and tensors."""


def tiny_model_folder(folder: Path, seed: int = 0) -> Path:
    """A random Llama of two layers with a byte-level tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=["</s>"], initial_alphabet=alphabet))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def sums_file(path: Path, count: int = 40) -> Path:
    """Additions, as prompt and completion."""
    rows = [{"prompt": f"{a} + {a + 3} =", "completion": f" {2 * a + 3}"} for a in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tokenizer_in(folder: Path, template: str) -> Any:
    """The tokenizer of a :func:`tiny_model_folder`, one token a byte, with a chat template."""
    found = AutoTokenizer.from_pretrained(folder)
    found.chat_template = template
    return found
