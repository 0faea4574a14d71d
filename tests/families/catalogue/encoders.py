"""Encoders of text: masked language models, classification, tagging, questions and choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from families.family import (
    Example,
    Family,
    aligned,
    answered,
    chosen,
    classified,
    entries,
    family,
    half_entries,
    masked,
    one,
    tagged,
    texts,
    two,
)
from models import LLAMA

BERT: dict[str, Any] = LLAMA | {"num_key_value_heads": ..., "num_labels": 3}
EMBEDDED: dict[str, Any] = BERT | {"embedding_size": 16}
ROBERTA: dict[str, Any] = BERT | {"pad_token_id": 1, "bos_token_id": 0}
DISTIL: dict[str, Any] = {"vocab_size": 37, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4, "num_labels": 3}
XLM: dict[str, Any] = {
    "vocab_size": 37,
    "n_words": 37,
    "emb_dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "pad_index": 0,
    "num_labels": 3,
    "max_position_embeddings": 64,
    "lang_id": 0,
    "mask_token_id": 3,
}
XLNET: dict[str, Any] = {"vocab_size": 37, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24, "num_labels": 3}
DEBERTA: dict[str, Any] = BERT | {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
MODERN: dict[str, Any] = BERT | {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 4, "dtype": torch.float32}
LONGFORMER: dict[str, Any] = ROBERTA | {"attention_window": [4, 4], "dtype": torch.float32}
FUNNEL: dict[str, Any] = {
    "vocab_size": 37,
    "d_model": 16,
    "n_head": 4,
    "d_head": 4,
    "d_inner": 24,
    "block_sizes": [1, 1],
    "num_labels": 3,
    "num_decoder_layers": 1,
    "pad_token_id": 0,
}
MOBILE: dict[str, Any] = BERT | {
    "embedding_size": 16,
    "intra_bottleneck_size": 8,
    "true_hidden_size": 8,
    "num_feedforward_networks": 1,
}
BIG_BIRD: dict[str, Any] = BERT | {"attention_type": "original_full"}
CONV: dict[str, Any] = EMBEDDED | {"head_ratio": 2, "conv_kernel_size": 3}

# By name: the prefix of the classes, settings, and the tasks that exist.
_KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "BERT": ("Bert", BERT, "mctqh"),
    "RoBERTa": ("Roberta", ROBERTA, "mctqh"),
    "XLM-RoBERTa": ("XLMRoberta", ROBERTA, "mc"),
    "XLM-RoBERTa-XL": ("XLMRobertaXL", ROBERTA, "mc"),
    "RoBERTa-PreLayerNorm": ("RobertaPreLayerNorm", ROBERTA, "mc"),
    "CamemBERT": ("Camembert", ROBERTA, "mt"),
    "Data2Vec text": ("Data2VecText", ROBERTA, "mc"),
    "X-MOD": ("Xmod", ROBERTA | {"languages": ["en_XX"], "default_language": "en_XX"}, "mc"),
    "ALBERT": ("Albert", EMBEDDED, "mctqh"),
    "ELECTRA": ("Electra", EMBEDDED, "mctqh"),
    "DistilBERT": ("DistilBert", DISTIL, "mctqh"),
    "DeBERTa": ("Deberta", DEBERTA, "mctq"),
    "DeBERTa v2": ("DebertaV2", DEBERTA, "mctqh"),
    "DeBERTa v3": (
        "DebertaV2",
        DEBERTA | {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 4},
        "mc",
    ),
    "ModernBERT": ("ModernBert", MODERN, "mctqh"),
    "MPNet": ("MPNet", ROBERTA, "mctqh"),
    "MobileBERT": ("MobileBert", MOBILE, "mctq"),
    "SqueezeBERT": ("SqueezeBert", EMBEDDED, "mct"),
    "RoFormer": ("RoFormer", EMBEDDED, "mctqh"),
    "RemBERT": ("RemBert", BERT | {"input_embedding_size": 16, "output_embedding_size": 16}, "mctq"),
    "Megatron-BERT": ("MegatronBert", BERT, "mctq"),
    "NomicBERT": ("NomicBert", BERT, "mc"),
    "EuroBERT": ("EuroBert", LLAMA | {"num_labels": 3, "mask_token_id": 3}, "mct"),
    "ERNIE": ("Ernie", BERT, "mctq"),
    "ESM": (
        "Esm",
        ROBERTA | {"mask_token_id": 3, "position_embedding_type": "rotary", "emb_layer_norm_before": True},
        "mct",
    ),
    "I-BERT": ("IBert", ROBERTA, "mc"),
    "LayoutLM": ("LayoutLM", BERT, "mct"),
    "LiLT": ("Lilt", ROBERTA | {"hidden_size": 24, "channel_shrink_ratio": 2}, "ct"),
    "MarkupLM": ("MarkupLM", ROBERTA | {"max_depth": 4, "xpath_unit_hidden_size": 4}, "ct"),
    "RoCBert": ("RoCBert", BERT | {"enable_pronunciation": False, "enable_shape": False}, "mct"),
    "Nyströmformer": (
        "Nystromformer",
        BERT | {"num_landmarks": 4, "segment_means_seq_len": 4, "conv_kernel_size": 3},
        "mc",
    ),
    "YOSO": ("Yoso", BERT | {"use_expectation": True}, "mc"),
    "Longformer": ("Longformer", LONGFORMER, "mct"),
    "BigBird": ("BigBird", BIG_BIRD, "mctqh"),
    "FNet": ("FNet", BERT | {"type_vocab_size": 2}, "mctqh"),
    "ConvBERT": ("ConvBert", CONV, "mctqh"),
    "Funnel": ("Funnel", FUNNEL, "mctq"),
    "LUKE": ("Luke", ROBERTA | {"entity_vocab_size": 8, "entity_emb_size": 8}, "mc"),
    "XLM": ("XLM", XLM, "cts"),
    "FlauBERT": ("Flaubert", XLM, "cts"),
    "XLNet": ("XLNet", XLNET, "cts"),
    "BERT generation": ("BertGeneration", BERT, ""),
    "GPT-2": (
        "GPT2",
        {
            "vocab_size": 37,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "num_labels": 3,
            "pad_token_id": 0,
        },
        "ctq",
    ),
    "Llama": ("Llama", LLAMA | {"num_labels": 3}, "ctq"),
    "Mistral": ("Mistral", LLAMA | {"num_labels": 3}, "ctq"),
    "Qwen 3": ("Qwen3", LLAMA | {"num_labels": 3, "head_dim": 4}, "ctq"),
    "BLOOM": ("Bloom", LLAMA | {"num_labels": 3, "n_layer": 2, "n_head": 4, "dtype": torch.float32}, "ctq"),
    "Falcon": ("Falcon", LLAMA | {"num_labels": 3}, "ctq"),
    "OPT": ("OPT", LLAMA | {"num_labels": 3, "ffn_dim": 24, "word_embed_proj_dim": 16}, "cq"),
    "GPT-NeoX": ("GPTNeoX", LLAMA | {"num_labels": 3}, "ctq"),
    "T5 encoder": (
        "T5",
        {
            "vocab_size": 37,
            "d_model": 16,
            "d_kv": 4,
            "d_ff": 24,
            "num_layers": 2,
            "num_heads": 4,
            "pad_token_id": 0,
            "num_labels": 3,
        },
        "t",
    ),
}


def question_losses(output: Any, batch: Mapping[str, Any]) -> Tensor:
    """-log p(start) - log p(end), the softmax running over the padding as the model's own does."""
    starts = F.cross_entropy(output.start_logits, batch["start_positions"], reduction="none")
    return starts + F.cross_entropy(output.end_logits, batch["end_positions"], reduction="none")


def choice_losses(output: Any, batch: Mapping[str, Any]) -> Tensor:
    """-log p of the right choice."""
    return F.cross_entropy(output.logits, batch["labels"], reduction="none")


def _tasks(name: str) -> list[Family]:
    prefix, settings, tasks = _KINDS[name]
    config = f"{prefix}Config"

    def made(task: str, suffix: str, examples: Any, labels: Any, **own: Any) -> Family:
        return family(name, task, f"{prefix}{suffix}", config, examples, settings, {"labels": labels}, own)

    rows = {
        "m": [made("masked LM", "ForMaskedLM", masked, aligned)],
        "c": [made("sequence classification", "ForSequenceClassification", classified, one)],
        "t": [made("token classification", "ForTokenClassification", tagged, aligned)],
        "q": [
            made("question answering", "ForQuestionAnswering", answered, two, num_labels=2),
            made(
                "question answering by example_loss",
                "ForQuestionAnswering",
                answered,
                two,
                num_labels=2,
                example_loss=question_losses,
            ),
        ],
        "s": [
            made(
                "simple question answering",
                "ForQuestionAnsweringSimple",
                answered,
                two,
                num_labels=2,
                example_loss=question_losses,
            )
        ],
        "h": [
            made("multiple choice", "ForMultipleChoice", chosen, one),
            made("multiple choice by example_loss", "ForMultipleChoice", chosen, one, example_loss=choice_losses),
        ],
    }
    return [row for task in tasks for row in rows[task]]


def _with_labels(make: Any) -> Any:
    def examples(lengths: Sequence[int]) -> list[Example]:
        return [example | {"labels": make(index)} for index, example in enumerate(texts(lengths))]

    return examples


def _problem(task: str, make: Any, labels: Any, **settings: Any) -> Family:
    return family(
        "BERT",
        task,
        "BertForSequenceClassification",
        "BertConfig",
        _with_labels(make),
        BERT,
        settings,
        {"labels": labels},
    )


_NUMBERS = [[0.5, -1.0, 2.0], [1.5, 0.0, -0.5], [-1.0, 1.0, 0.25], [0.0, 2.0, 1.0]]
_SETS = [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]]

PROBLEMS = (
    _problem("one target", lambda i: torch.tensor([float(i)]), half_entries, num_labels=1),
    _problem(
        "one target, integer scores", lambda i: torch.tensor([i]), half_entries, num_labels=1, dtype=torch.float32
    ),
    _problem("three targets", lambda i: torch.tensor(_NUMBERS[i : i + 1]), half_entries, problem_type="regression"),
    _problem("several labels", lambda i: torch.tensor(_SETS[i : i + 1]).float(), entries),
    _problem(
        "several labels, named",
        lambda i: torch.tensor(_SETS[i : i + 1]).float(),
        entries,
        problem_type="multi_label_classification",
    ),
    _problem(
        "yes or no by one logit",
        lambda i: torch.tensor([[float(i % 2)]]),
        entries,
        num_labels=1,
        problem_type="multi_label_classification",
    ),
    _problem("one class, named", lambda i: torch.tensor([i % 3]), one, problem_type="single_label_classification"),
    _problem("two classes, named", lambda i: torch.tensor([i % 2]), one, num_labels=2),
)

FAMILIES = (*(row for name in _KINDS for row in _tasks(name)), *PROBLEMS)
