"""Speech and sound, and time series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from families.catalogue.seq2seq import BART
from families.family import Example, Family, aligned, family, generator_of, one, texts
from models import LLAMA

WAV2VEC2: dict[str, Any] = {
    "vocab_size": 37,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "conv_dim": [8, 8],
    "conv_kernel": [3, 3],
    "conv_stride": [2, 2],
    "num_feat_extract_layers": 2,
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 3,
    "num_conv_pos_embedding_groups": 2,
    "num_labels": 3,
    "classifier_proj_size": 8,
    "pad_token_id": 0,
    "ctc_loss_reduction": "mean",
    "lengths": (48, 64, 40, 56),
    "paddings": ("right",),
    "mask_time_prob": 0.0,
}


def two_letters(_example: Example) -> float:
    """CTC's mean runs over the target's letters."""
    return 2.0


def sounds(lengths: Sequence[int], *, labels: str = "class") -> list[Example]:
    """Raw sounds with a mask, and a class, two letters, or nothing."""
    generator, examples = generator_of(), []
    for index, length in enumerate(lengths):
        example = {
            "input_values": torch.randn(1, length, generator=generator),
            "attention_mask": torch.ones(1, length, dtype=torch.long),
            "labels": torch.tensor([index % 3]) if labels == "class" else torch.tensor([[5 + index, 7]]),
        }
        examples.append(example)
    return examples


def spectra(
    lengths: Sequence[int],
    *,
    key: str = "input_features",
    bands: int = 8,
    frames: int = 16,
    first: str = "bands",
    labels: str = "text",
    mask: bool = False,
) -> list[Example]:
    """Spectrograms, with a text or a class."""
    generator, examples = generator_of(), []
    for index, (length, text) in enumerate(zip(lengths, texts(lengths), strict=True)):
        own = length * 2 if mask else frames
        shape = (1, bands, own) if first == "bands" else (1, own, bands)
        example = {key: torch.randn(shape, generator=generator)}
        example |= {"attention_mask": torch.ones(1, own, dtype=torch.long)} if mask else {}
        example["labels"] = text["input_ids"] if labels == "text" else torch.tensor([index % 3])
        examples.append(example)
    return examples


def started(lengths: Sequence[int]) -> list[Example]:
    """Spectrograms with the decoder's inputs."""
    examples = spectra(lengths)
    for example in examples:
        example["decoder_input_ids"] = torch.cat(
            [torch.ones(1, 1, dtype=torch.long), example["labels"][:, :-1].clamp(min=0)], 1
        )
    return examples


WHISPER: dict[str, Any] = {
    **{key: value for key, value in BART.items() if key != "max_position_embeddings"},
    "num_mel_bins": 8,
    "max_source_positions": 8,
    "max_target_positions": 32,
    "labels": aligned,
    "paddings": ("right",),
    "own_axes": frozenset({"labels"}),
    "num_labels": 3,
    "classifier_proj_size": 8,
}


def _wave(name: str, prefix: str, *settings: Mapping[str, Any], ctc: bool = True) -> list[Family]:
    make = partial(family, name)
    rows = [
        make(
            "audio classification",
            f"{prefix}ForSequenceClassification",
            f"{prefix}Config",
            sounds,
            WAV2VEC2,
            {"labels": one},
            *settings,
        )
    ]
    if ctc:
        rows.append(
            make(
                "CTC",
                f"{prefix}ForCTC",
                f"{prefix}Config",
                partial(sounds, labels="text"),
                WAV2VEC2,
                {"labels": two_letters, "own_axes": frozenset({"labels"})},
                *settings,
            )
        )
    return rows


# Time series.


def past_and_future(lengths: Sequence[int], *, past: int = 16, future: int = 4) -> list[Example]:
    """A series of one channel and what follows."""
    generator = generator_of()
    return [
        {
            "past_values": torch.randn(1, past, 1, generator=generator),
            "future_values": torch.randn(1, future, 1, generator=generator),
        }
        for _ in lengths
    ]


def dated(lengths: Sequence[int], *, past: int = 12, future: int = 4) -> list[Example]:
    """The same with one time feature, as the transformers for series want it."""
    generator = generator_of()
    return [
        {
            "past_values": torch.randn(1, past, generator=generator),
            "past_time_features": torch.randn(1, past, 1, generator=generator),
            "past_observed_mask": torch.ones(1, past),
            "future_values": torch.randn(1, future, generator=generator),
            "future_time_features": torch.randn(1, future, 1, generator=generator),
        }
        for _ in lengths
    ]


def squares(output: Any, batch: Mapping[str, Any]) -> Tensor:
    """Half the squared error of each example."""
    errors: Tensor = output.prediction_outputs - batch["future_values"]
    return 0.5 * errors.square().flatten(1).sum(1)


def future_entries(example: Example) -> float:
    """The mean of squares runs over the future; its negative log-likelihood is half of the sum."""
    return float(example["future_values"].numel()) / 2


PATCHES: dict[str, Any] = {
    "num_input_channels": 1,
    "context_length": 16,
    "prediction_length": 4,
    "patch_length": 4,
    "patch_stride": 4,
    "d_model": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 24,
    "loss": "mse",
    "labels": future_entries,
    "paddings": (),
    "scaling": None,
    "stride": 4,
    "num_layers": 2,
    "num_targets": 3,
}
SERIES: dict[str, Any] = {
    "prediction_length": 4,
    "context_length": 8,
    "lags_sequence": [1, 2, 3, 4],
    "num_time_features": 1,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "labels": lambda _example: 1.0,
    "paddings": (),
    "scaling": False,
}


def speech_encoder_decoder() -> nn.Module:
    """A wav2vec 2.0 that a BERT attends to."""
    wave = {key: value for key, value in WAV2VEC2.items() if key not in ("lengths", "paddings")}
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.Wav2Vec2Config(**wave),
        transformers.BertConfig(
            vocab_size=37,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=4,
            is_decoder=True,
            add_cross_attention=True,
        ),
    )
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    model: nn.Module = transformers.SpeechEncoderDecoderModel(config)
    return model


FAMILIES = (
    *_wave("wav2vec 2.0", "Wav2Vec2"),
    *_wave("HuBERT", "Hubert"),
    *_wave("WavLM", "WavLM", {"num_buckets": 8, "max_bucket_distance": 16}),
    *_wave("UniSpeech", "UniSpeech", {"num_ctc_classes": 37}),
    *_wave("UniSpeech-SAT", "UniSpeechSat", {"num_ctc_classes": 37}),
    *_wave("Data2Vec audio", "Data2VecAudio", {"conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2}),
    *_wave("SEW", "SEW", {"squeeze_factor": 1}),
    *_wave("wav2vec 2.0 Conformer", "Wav2Vec2Conformer", {"conv_depthwise_kernel_size": 3}),
    family(
        "wav2vec 2.0 BERT",
        "audio classification",
        "Wav2Vec2BertForSequenceClassification",
        "Wav2Vec2BertConfig",
        partial(spectra, first="frames", labels="class", mask=True),
        WAV2VEC2,
        {"labels": one, "feature_projection_input_dim": 8, "lengths": (5, 8, 3, 6), "conv_depthwise_kernel_size": 3},
    ),
    family(
        "AST",
        "audio classification",
        "ASTForAudioClassification",
        "ASTConfig",
        partial(spectra, key="input_values", first="frames", labels="class"),
        {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 4,
            "frequency_stride": 4,
            "time_stride": 4,
            "max_length": 16,
            "num_mel_bins": 8,
            "num_labels": 3,
            "labels": one,
            "paddings": (),
        },
    ),
    family("Whisper", "speech to text", "WhisperForConditionalGeneration", "WhisperConfig", spectra, WHISPER),
    family(
        "Whisper",
        "speech to text, decoder inputs given",
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        started,
        WHISPER,
        {"own_axes": frozenset({"labels", "decoder_input_ids"})},
    ),
    family(
        "Whisper",
        "audio classification",
        "WhisperForAudioClassification",
        "WhisperConfig",
        partial(spectra, labels="class"),
        WHISPER,
        {"labels": one, "paddings": ()},
    ),
    family(
        "Speech2Text",
        "speech to text",
        "Speech2TextForConditionalGeneration",
        "Speech2TextConfig",
        partial(spectra, first="frames", mask=True),
        WHISPER,
        {
            "input_feat_per_channel": 8,
            "conv_channels": 8,
            "conv_kernel_sizes": [3],
            "num_conv_layers": 1,
            "max_source_positions": 64,
        },
    ),
    family(
        "Moonshine",
        "speech to text",
        "MoonshineForConditionalGeneration",
        "MoonshineConfig",
        lambda lengths: [
            {
                "input_values": sound["input_values"],
                "attention_mask": sound["attention_mask"],
                "labels": text["input_ids"],
            }
            for sound, text in zip(sounds([400 + 100 * n for n in lengths]), texts(lengths), strict=True)
        ],
        LLAMA,
        {
            "encoder_num_hidden_layers": 1,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "decoder_start_token_id": 1,
            "labels": aligned,
            "paddings": ("right",),
            "own_axes": frozenset({"labels"}),
            "num_hidden_layers": ...,
            "num_attention_heads": ...,
            "num_key_value_heads": ...,
        },
    ),
    Family(
        "SpeechEncoderDecoder",
        "speech to text",
        speech_encoder_decoder,
        lambda lengths: [
            {
                "input_values": sound["input_values"],
                "attention_mask": sound["attention_mask"],
                "labels": text["input_ids"],
            }
            for sound, text in zip(sounds([40 + 4 * n for n in lengths]), texts(lengths), strict=True)
        ],
        aligned,
        paddings=("right",),
        own_axes=frozenset({"labels"}),
    ),
    family("PatchTST", "forecasting", "PatchTSTForPrediction", "PatchTSTConfig", past_and_future, PATCHES),
    family(
        "PatchTST",
        "forecasting by example_loss",
        "PatchTSTForPrediction",
        "PatchTSTConfig",
        past_and_future,
        PATCHES,
        {"example_loss": squares},
    ),
    family(
        "PatchTSMixer",
        "forecasting by example_loss",
        "PatchTSMixerForPrediction",
        "PatchTSMixerConfig",
        past_and_future,
        PATCHES,
        {"example_loss": squares},
    ),
    family(
        "Time series transformer",
        "forecasting",
        "TimeSeriesTransformerForPrediction",
        "TimeSeriesTransformerConfig",
        dated,
        SERIES,
    ),
    family("Informer", "forecasting", "InformerForPrediction", "InformerConfig", dated, SERIES, {"distil": False}),
)
