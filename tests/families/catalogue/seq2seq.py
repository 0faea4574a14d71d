"""Models with an encoder and a decoder, of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import nn

from families.catalogue.encoders import question_losses
from families.family import Example, Family, aligned, answered, classified, family, one, translated, two

BART: dict[str, Any] = {
    "vocab_size": 37,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": ...,
}
T5: dict[str, Any] = {
    "vocab_size": 37,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
    "labels": aligned,
}
OWN = {"labels": aligned, "own_axes": frozenset({"labels", "decoder_input_ids"})}


def _sequences(name: str, model: str, config: str, *settings: Any) -> Family:
    return family(name, "seq2seq LM", model, config, translated, OWN, *settings)


def with_decoder_inputs(examples: Any) -> Any:
    """The same examples with the decoder's inputs beside the labels."""

    def made(lengths: Sequence[int]) -> list[Example]:
        rows: list[Example] = examples(lengths)
        for row in rows:
            row["decoder_input_ids"] = torch.cat([row["labels"].new_full((1, 1), 2), row["labels"][:, :-1]], 1)
        return rows

    return made


def ended(lengths: Sequence[int]) -> list[Example]:
    """Classes, of texts that end as BART's classifier needs it."""
    return classified(lengths, end=2)


def encoder_decoder() -> nn.Module:
    """Two BERTs, one of which attends to the other."""
    bert: dict[str, Any] = {
        "vocab_size": 37,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.BertConfig(**bert), transformers.BertConfig(**bert, is_decoder=True, add_cross_attention=True)
    )
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    model: nn.Module = transformers.EncoderDecoderModel(config)
    return model


FAMILIES = (
    _sequences("T5", "T5ForConditionalGeneration", "T5Config", T5),
    _sequences(
        "T5, gated",
        "T5ForConditionalGeneration",
        "T5Config",
        T5,
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    _sequences("mT5", "MT5ForConditionalGeneration", "MT5Config", T5),
    _sequences("UMT5", "UMT5ForConditionalGeneration", "UMT5Config", T5),
    _sequences("LongT5", "LongT5ForConditionalGeneration", "LongT5Config", T5, {"local_radius": 4}),
    _sequences(
        "LongT5, transient global",
        "LongT5ForConditionalGeneration",
        "LongT5Config",
        T5,
        {"local_radius": 4, "encoder_attention_type": "transient-global", "global_block_size": 4},
    ),
    _sequences(
        "Switch Transformers",
        "SwitchTransformersForConditionalGeneration",
        "SwitchTransformersConfig",
        T5,
        {
            "num_experts": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "expert_capacity": 64,
            "router_dtype": "float32",
            "dtype": torch.float32,
        },
    ),
    _sequences("BART", "BartForConditionalGeneration", "BartConfig", BART),
    _sequences("mBART", "MBartForConditionalGeneration", "MBartConfig", BART),
    _sequences("Marian", "MarianMTModel", "MarianConfig", BART, {"decoder_start_token_id": 0}),
    _sequences("Pegasus", "PegasusForConditionalGeneration", "PegasusConfig", BART),
    _sequences(
        "Pegasus-X",
        "PegasusXForConditionalGeneration",
        "PegasusXConfig",
        BART,
        {"block_size": 4, "num_global_tokens": 2},
    ),
    _sequences(
        "BigBird-Pegasus",
        "BigBirdPegasusForConditionalGeneration",
        "BigBirdPegasusConfig",
        BART,
        {"attention_type": "original_full"},
    ),
    _sequences("Blenderbot", "BlenderbotForConditionalGeneration", "BlenderbotConfig", BART),
    _sequences("Blenderbot small", "BlenderbotSmallForConditionalGeneration", "BlenderbotSmallConfig", BART),
    _sequences(
        "LED",
        "LEDForConditionalGeneration",
        "LEDConfig",
        BART,
        {
            "attention_window": 4,
            "dtype": torch.float32,
            "max_encoder_position_embeddings": 64,
            "max_decoder_position_embeddings": 64,
            "max_position_embeddings": ...,
        },
    ),
    _sequences("MVP", "MvpForConditionalGeneration", "MvpConfig", BART),
    _sequences("PLBart", "PLBartForConditionalGeneration", "PLBartConfig", BART),
    _sequences("M2M100", "M2M100ForConditionalGeneration", "M2M100Config", BART),
    _sequences(
        "NLLB-MoE",
        "NllbMoeForConditionalGeneration",
        "NllbMoeConfig",
        BART,
        {
            "num_experts": 2,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "router_dtype": "float32",
            "dtype": torch.float32,
            "expert_capacity": 64,
        },
    ),
    family(
        "FSMT",
        "seq2seq LM, decoder inputs given",
        "FSMTForConditionalGeneration",
        "FSMTConfig",
        with_decoder_inputs(translated),
        OWN,
        BART,
        {
            "dtype": torch.float32,
            "langs": ["en", "de"],
            "src_vocab_size": 37,
            "tgt_vocab_size": 37,
            "vocab_size": ...,
            "pad_token_id": 1,
            "fill": {"input_ids": 1, "decoder_input_ids": 1},
        },
    ),
    _sequences(
        "ProphetNet",
        "ProphetNetForConditionalGeneration",
        "ProphetNetConfig",
        {
            "vocab_size": 37,
            "hidden_size": 16,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
            "ngram": 2,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "disable_ngram_loss": True,
            "dtype": torch.float32,
        },
    ),
    Family(
        "EncoderDecoder of BERTs", "seq2seq LM", encoder_decoder, translated, aligned, own_axes=frozenset({"labels"})
    ),
    family(
        "BART",
        "seq2seq LM, decoder inputs given",
        "BartForConditionalGeneration",
        "BartConfig",
        with_decoder_inputs(translated),
        OWN,
        BART,
    ),
    family(
        "M2M100",
        "seq2seq LM, decoder inputs given",
        "M2M100ForConditionalGeneration",
        "M2M100Config",
        with_decoder_inputs(translated),
        OWN,
        BART,
    ),
    family(
        "BART",
        "sequence classification",
        "BartForSequenceClassification",
        "BartConfig",
        ended,
        BART,
        {"labels": one, "num_labels": 3, "paddings": ("right",)},
    ),
    family(
        "BART",
        "question answering",
        "BartForQuestionAnswering",
        "BartConfig",
        answered,
        BART,
        {"labels": two, "num_labels": 2},
    ),
    family(
        "BART",
        "question answering by example_loss",
        "BartForQuestionAnswering",
        "BartConfig",
        answered,
        BART,
        {"labels": two, "num_labels": 2, "example_loss": question_losses},
    ),
    family(
        "T5",
        "sequence classification",
        "T5ForSequenceClassification",
        "T5Config",
        ended,
        T5,
        {"labels": one, "num_labels": 3, "paddings": ("right",)},
    ),
    family(
        "T5",
        "question answering by example_loss",
        "T5ForQuestionAnswering",
        "T5Config",
        answered,
        T5,
        {"labels": two, "num_labels": 2, "example_loss": question_losses},
    ),
    family(
        "mBART",
        "sequence classification",
        "MBartForSequenceClassification",
        "MBartConfig",
        ended,
        BART,
        {"labels": one, "num_labels": 3, "paddings": ("right",)},
    ),
    family(
        "LED",
        "question answering by example_loss",
        "LEDForQuestionAnswering",
        "LEDConfig",
        answered,
        BART,
        {
            "labels": two,
            "num_labels": 2,
            "attention_window": 4,
            "dtype": torch.float32,
            "max_encoder_position_embeddings": 64,
            "max_decoder_position_embeddings": 64,
            "max_position_embeddings": ...,
            "example_loss": question_losses,
        },
    ),
)
