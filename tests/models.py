"""Tiny randomly initialised models of several architectures, and data for them. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

VOCABULARY = 37
PADDING = 0
Example = dict[str, Tensor]
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": PADDING,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _made(make: Callable[[Any], nn.Module], config: Any, seed: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(config).eval()


def _labels(count: int) -> dict[str, Any]:
    """A setting of every configuration, which their classes don't declare."""
    return {"num_labels": count}


def tiny_llama(seed: int = 0, **changes: Any) -> Any:
    config = transformers.LlamaConfig(**{**LLAMA, "initializer_range": 0.3, **changes})
    return _made(transformers.LlamaForCausalLM, config, seed)


def tiny_llama_with_dropout(seed: int = 0) -> Any:
    """Dropout in the attention and, as a module, on every block's MLP output."""
    model = tiny_llama(seed, attention_dropout=0.5)
    for layer in model.model.layers:
        layer.mlp = nn.Sequential(layer.mlp, nn.Dropout(0.5))
    return model


def tiny_gpt2(seed: int = 0, dropout: float = 0.0) -> Any:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=4,
        initializer_range=0.3,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _made(transformers.GPT2LMHeadModel, config, seed)


def tiny_bert(seed: int = 0, dropout: float = 0.0, labels: int = 3) -> Any:
    """A sequence classifier."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=PADDING,
        **_labels(labels),
    )
    return _made(transformers.BertForSequenceClassification, config, seed)


def tiny_t5(seed: int = 0, dropout: float = 0.0) -> Any:
    start: dict[str, Any] = {"decoder_start_token_id": PADDING}  # not among what the class declares
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=dropout,
        initializer_factor=1.0,
        pad_token_id=PADDING,
        eos_token_id=2,
        **start,
    )
    return _made(transformers.T5ForConditionalGeneration, config, seed)


def tiny_opt(seed: int = 0, dropout: float = 0.5) -> Any:
    """Its dropout is a function that looks at the block's own training flag."""
    config = transformers.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        init_std=0.3,
        dropout=dropout,
        attention_dropout=dropout,
        layerdrop=dropout / 5,
        pad_token_id=PADDING,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _made(transformers.OPTForCausalLM, config, seed)


def tiny_vit(seed: int = 0) -> Any:
    """An image classifier."""
    config = transformers.ViTConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=8,
        patch_size=4,
        num_channels=1,
        initializer_range=0.3,
        **_labels(3),
    )
    return _made(transformers.ViTForImageClassification, config, seed)


class Positionwise(nn.Module):
    """A language model whose positions don't see each other; ``loss_type`` says what transformers' models say."""

    loss_type = "ForCausalLM"

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.once = nn.Linear(width, width)
        self.twice = nn.Linear(width, width)
        self.unused = nn.Linear(width, width)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        hidden = self.embedding(input_ids)
        hidden = hidden + torch.tanh(self.once(hidden))
        self.unused(hidden * 2)  # a tensor of its own
        hidden = hidden + torch.tanh(self.twice(torch.tanh(self.twice(hidden))))
        return transformers.modeling_outputs.CausalLMOutput(logits=self.head(hidden))


def positionwise(seed: int = 0, width: int = 6) -> Any:
    return _made(lambda config: Positionwise(config), width, seed)


LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def with_lora(model: nn.Module, seed: int = 0, *, trained: bool = False, **settings: Any) -> PeftModel:
    """A PEFT model around this very model; ``trained`` gives lora_B random entries."""
    common: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": LLAMA_TARGETS}
    config = LoraConfig(**(common | settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft_model = get_peft_model(model, config)
        if trained:
            for name, parameter in peft_model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(parameter.data)
    return peft_model.eval()


def causal_examples(count: int, seed: int = 0, longest: int = 9) -> list[Example]:
    """Prompts without labels and completions with them, of random lengths."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for _ in range(count):
        prompt, completion = torch.randint(1, longest // 2 + 1, (2,), generator=generator).tolist()
        tokens = torch.randint(3, VOCABULARY, (prompt + completion,), generator=generator)
        labels = tokens.clone()
        labels[:prompt] = -100
        examples.append({"input_ids": tokens, "labels": labels})
    return examples


def classified_examples(count: int, seed: int = 0) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    return [
        {"input_ids": example["input_ids"], "labels": label}
        for example, label in zip(causal_examples(count, seed), labels, strict=True)
    ]


def translated_examples(count: int, seed: int = 0) -> list[Example]:
    """The longest source is as long as the longest target, so that shapes alone don't tell them apart."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for index in range(count):
        source, target = torch.randint(2, 8, (2,), generator=generator).tolist()
        if index % 2:
            source, target = (8, target) if index % 4 == 1 else (source, 8)
        examples.append(
            {
                "input_ids": torch.randint(3, VOCABULARY, (source,), generator=generator),
                "labels": torch.randint(3, VOCABULARY, (target,), generator=generator),
            }
        )
    return examples


def image_examples(count: int, seed: int = 0) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "pixel_values": torch.randn(1, 8, 8, generator=generator),
            "labels": torch.randint(3, (), generator=generator),
        }
        for _ in range(count)
    ]


def collate(examples: Sequence[Example], side: str = "right", padding: int = PADDING) -> Example:
    """One batch: token ids and their labels padded, with a mask. Labels of another length are padded on the right."""
    batch: Example = {}
    for key in examples[0]:
        rows = [example[key] for example in examples]
        if key not in ("input_ids", "labels") or rows[0].ndim == 0:
            batch[key] = torch.stack(rows)
            continue
        own = key == "labels" and any(len(row) != len(e["input_ids"]) for row, e in zip(rows, examples, strict=True))
        fill = -100 if key == "labels" else padding
        batch[key] = _padded(rows, fill, "right" if own else side)
        if key == "input_ids":
            batch["attention_mask"] = _padded([torch.ones_like(row) for row in rows], 0, side)
    return batch


def packed(rows: Sequence[Sequence[Example]], mask_labels: bool = True) -> Example:
    """Rows of several examples each, as TRL's padding-free collator makes them; single tokens fill short rows up."""
    longest = max(sum(len(example["input_ids"]) for example in row) for row in rows)
    batch: dict[str, list[Tensor]] = {"input_ids": [], "labels": [], "position_ids": []}
    for row in rows:
        rest = torch.zeros(longest - sum(len(example["input_ids"]) for example in row), dtype=torch.long)
        batch["input_ids"].append(torch.cat([*(example["input_ids"] for example in row), rest]))
        batch["labels"].append(torch.cat([*(example["labels"] for example in row), rest - 100]))
        batch["position_ids"].append(torch.cat([*(torch.arange(len(e["input_ids"])) for e in row), rest]))
    made = {key: torch.stack(values) for key, values in batch.items()}
    if mask_labels:
        made["labels"][made["position_ids"] == 0] = -100
    return made


def _padded(rows: Sequence[Tensor], fill: int, side: str) -> Tensor:
    longest = max(len(row) for row in rows)
    padded = []
    for row in rows:
        filler = row.new_full((longest - len(row),), fill)
        padded.append(torch.cat([row, filler] if side == "right" else [filler, row]))
    return torch.stack(padded)


def batches_of(
    examples: Sequence[Example], size: int = 4, side: str = "right", padding: int = PADDING
) -> list[Example]:
    return [collate(examples[start : start + size], side, padding) for start in range(0, len(examples), size)]


def trained_llama() -> Any:
    """A trained Llama of 260 032 parameters, from the folder beside the test data."""
    root = os.environ.get("LORA_DA_DATA")
    folder = None if root is None else Path(root).parent / "models" / "stories260K"
    if folder is None or not folder.is_dir():
        pytest.skip("there is no trained tiny Llama (models/stories260K beside $LORA_DA_DATA)")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
