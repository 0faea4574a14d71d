"""Tiny models and data in folders, in place of those of a hub that the examples name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from PIL import Image
from transformers import AutoTokenizer

from folders import tiny_model_folder

ROWS = 16
SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def _folder(folder: Path, make: Callable[[Any], Any]) -> Path:
    """The folder of a tiny Llama, whose tokenizer the model that is made of it keeps."""
    tiny_model_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, pad_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    if made := make(len(tokenizer)):
        made.save_pretrained(folder)
    return folder


def llama(folder: Path) -> Path:
    return _folder(folder, lambda vocabulary: None)


def bert(folder: Path) -> Path:
    return _folder(
        folder, lambda vocabulary: transformers.BertModel(transformers.BertConfig(vocab_size=vocabulary, **SIZES))
    )


def t5(folder: Path) -> Path:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    start: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0}
    return _folder(
        folder,
        lambda vocabulary: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=vocabulary, **sizes, **start)
        ),
    )


def vit(folder: Path) -> Path:
    transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **SIZES)).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    """It hears a fifth of a second: 20 frames, of which a convolution makes 10 positions."""
    sizes: dict[str, Any] = {"d_model": 16, "num_mel_bins": 8, "max_source_positions": 50, "max_target_positions": 32}
    sizes |= {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_ffn_dim": 24 for side in ("encoder", "decoder")}
    tokens: dict[str, Any] = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")}
    _folder(
        folder,
        lambda vocabulary: transformers.WhisperForConditionalGeneration(
            transformers.WhisperConfig(vocab_size=vocabulary, **sizes, **tokens)
        ),
    )
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def _kept(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    return folder


def questions(folder: Path) -> Path:
    return _kept(folder, [{"question": f"{n} + 7?", "answer": f"#### {n + 7}"} for n in range(ROWS)])


def preferences(folder: Path) -> Path:
    rows = [{"prompt": f"{n} + 7 =", "chosen": f" {n + 7}", "rejected": f" {n + 8}"} for n in range(ROWS)]
    return _kept(folder, rows)


def reviews(folder: Path) -> Path:
    return _kept(folder, [{"text": f"{n} {'good' if n % 2 else 'bad'} films", "label": n % 2} for n in range(ROWS)])


def summaries(folder: Path) -> Path:
    return _kept(folder, [{"text": f"A bill on {n} roads.", "summary": f"{n} roads", "title": ""} for n in range(ROWS)])


def images(folder: Path) -> Path:
    grey = [Image.fromarray(np.full((8, 8, 3), 15 * n, dtype=np.uint8)) for n in range(ROWS)]
    return _kept(folder, [{"image": image, "labels": n % 2} for n, image in enumerate(grey)])


def sounds(folder: Path) -> Path:
    waves = np.sin(np.arange(3200) * np.linspace(0.01, 1, ROWS)[:, None])
    rows = [
        {"audio": {"array": wave.tolist(), "sampling_rate": 16000}, "text": f"tone {n}"} for n, wave in enumerate(waves)
    ]
    return _kept(folder, rows)
