"""Models that read text beside images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from families.catalogue.seq2seq import BART
from families.family import Example, Family, aligned, causal, family, generator_of, one, pictures, shifted, texts
from models import LLAMA

IMAGE = 3
"""The token that stands for a part of an image."""

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
TEXT: dict[str, Any] = LLAMA | {"num_hidden_layers": 1, "head_dim": 4}
LONG = (9, 12, 7, 10)


def described(
    lengths: Sequence[int],
    *,
    tokens: int = 4,
    size: int = 8,
    extra: Callable[[Tensor], Mapping[str, Any]] | None = None,
    shape: tuple[int, ...] = (),
) -> list[Example]:
    """An image's tokens, then text: the loss on the text."""
    generator = generator_of(1)
    examples = causal(lengths)
    for example in examples:
        example["input_ids"][:, 1 : 1 + tokens] = IMAGE
        example["labels"][:, : 2 + tokens] = -100
        example["pixel_values"] = torch.randn(shape or (1, 3, size, size), generator=generator)
        example.update(extra(example["input_ids"]) if extra else {})
    return examples


def _vlm(
    name: str,
    prefix: str,
    vision: Callable[[], Any],
    text: Callable[[], Any],
    examples: Any = described,
    *,
    task: str = "image and text",
    own: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Family:
    def make() -> nn.Module:
        config = getattr(transformers, f"{prefix}Config")(vision_config=vision(), text_config=text(), **settings)
        model: nn.Module = getattr(transformers, f"{prefix}ForConditionalGeneration")(config)
        return model

    return Family(name, task, make, examples, shifted, **{"lengths": LONG, **(own or {})})


def _config(name: str, *settings: Mapping[str, Any], **more: Any) -> Callable[[], Any]:
    merged: dict[str, Any] = {}
    for part in (*settings, more):
        merged |= part
    return lambda: getattr(transformers, name)(**merged)


def _kinds(tokens: Tensor) -> dict[str, Tensor]:
    return {"token_type_ids": (tokens == IMAGE).long()}


def _grid(tokens: Tensor) -> dict[str, Tensor]:
    return {"image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": (tokens == IMAGE).int()}


def _crossing(tokens: Tensor) -> dict[str, Tensor]:
    return {
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
        "cross_attention_mask": torch.ones(1, tokens.shape[1], 1, 1, dtype=torch.long),
    }


def _qwen(name: str, prefix: str, vision: Mapping[str, Any], only: tuple[str, ...] = (), **text: Any) -> Family:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4}
    examples = partial(described, extra=_grid, shape=(16, 3 * 2 * 4 * 4))
    return _vlm(
        name,
        prefix,
        lambda: dict(vision),
        lambda: {**TEXT, "rope_parameters": rope, "rope_scaling": rope, **text},
        examples,
        image_token_id=IMAGE,
        vision_start_token_id=1,
        vision_end_token_id=2,
        video_token_id=4,
        own={"only": only},
    )


def contrast(output: Any, batch: Mapping[str, Any]) -> Tensor:
    """CLIP's loss, an example at a time."""
    pairs = torch.arange(len(output.logits_per_text))
    by_text = F.cross_entropy(output.logits_per_text, pairs, reduction="none")
    return (by_text + F.cross_entropy(output.logits_per_image, pairs, reduction="none")) / 2


contrast.batch_dependent = True  # type: ignore[attr-defined]


def captioned(lengths: Sequence[int]) -> list[Example]:
    """A caption and an image, closed by the token that CLIP pools."""
    return [
        text | {"pixel_values": image["pixel_values"]}
        for text, image in zip(texts(lengths, end=2), pictures(lengths), strict=True)
    ]


def _pair(name: str, prefix: str, text: Mapping[str, Any], **settings: Any) -> Family:
    def make() -> nn.Module:
        config = getattr(transformers, f"{prefix}Config")(
            text_config=dict(text), vision_config=dict(VISION), **settings
        )
        model: nn.Module = getattr(transformers, f"{prefix}Model")(config)
        return model

    return Family(
        name,
        "contrastive by example_loss",
        make,
        captioned,
        one,
        example_loss=contrast,
        couples_examples=True,
        own_loss=lambda output, batch: contrast(output, batch).sum(),
    )


def vision_encoder_decoder() -> nn.Module:
    """A ViT that a GPT-2 attends to."""
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**VISION),
        transformers.GPT2Config(
            vocab_size=37,
            n_embd=16,
            n_layer=1,
            n_head=4,
            n_positions=64,
            add_cross_attention=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
    )
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    model: nn.Module = transformers.VisionEncoderDecoderModel(config)
    return model


def read(lengths: Sequence[int], *, size: int = 8) -> list[Example]:
    """An image and its text."""
    return [
        {"pixel_values": image["pixel_values"], "labels": text["input_ids"]}
        for text, image in zip(texts(lengths), pictures(lengths, size=size), strict=True)
    ]


_clip, _siglip = _config("CLIPVisionConfig", VISION), _config("SiglipVisionConfig", VISION)
_sixteen = _config("SiglipVisionConfig", VISION, patch_size=2)
_llama = _config("LlamaConfig", TEXT)
QWEN2_VISION = {
    "depth": 1,
    "embed_dim": 16,
    "hidden_size": 16,
    "num_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}

FAMILIES = (
    _vlm("LLaVA", "Llava", _clip, _llama, image_token_index=IMAGE),
    _vlm(
        "LLaVA, SigLIP",
        "Llava",
        _siglip,
        _config("Qwen2Config", TEXT),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    ),
    _vlm("VipLLaVA", "VipLlava", _clip, _llama, image_token_index=IMAGE, vision_feature_layers=[-1, -2]),
    _vlm(
        "PaliGemma",
        "PaliGemma",
        _siglip,
        _config("GemmaConfig", TEXT),
        partial(described, extra=_kinds),
        image_token_index=IMAGE,
        projection_dim=16,
        own={"paddings": ("right", "left")},
    ),
    _vlm(
        "Gemma 3",
        "Gemma3",
        _siglip,
        _config("Gemma3TextConfig", TEXT, sliding_window=4),
        partial(described, extra=_kinds),
        image_token_index=IMAGE,
        mm_tokens_per_image=4,
        boi_token_index=1,
        eoi_token_index=2,
    ),
    _vlm(
        "Gemma 3, four patches a token",
        "Gemma3",
        _sixteen,
        _config("Gemma3TextConfig", TEXT, sliding_window=4),
        partial(described, extra=_kinds),
        image_token_index=IMAGE,
        mm_tokens_per_image=4,
        boi_token_index=1,
        eoi_token_index=2,
        own={"lengths": (9, 16, 7, 12)},
    ),
    _vlm(
        "InternVL",
        "InternVL",
        _config("InternVLVisionConfig", VISION, image_size=[8, 8], patch_size=[2, 2]),
        _llama,
        image_token_id=IMAGE,
        image_seq_length=4,
        own={"lengths": (9, 16, 7, 12)},
    ),
    _vlm(
        "Idefics 3",
        "Idefics3",
        _config("Idefics3VisionConfig", VISION, patch_size=2),
        _llama,
        partial(described, shape=(1, 1, 3, 8, 8)),
        image_token_id=IMAGE,
        scale_factor=2,
        own={"lengths": (9, 16, 7, 12)},
    ),
    _vlm(
        "SmolVLM",
        "SmolVLM",
        _config("SmolVLMVisionConfig", VISION, patch_size=2),
        _llama,
        partial(described, shape=(1, 1, 3, 8, 8)),
        image_token_id=IMAGE,
        scale_factor=2,
        own={"lengths": (9, 16, 7, 12)},
    ),
    _vlm(
        "Idefics 2",
        "Idefics2",
        _config("Idefics2VisionConfig", VISION),
        _config("MistralConfig", TEXT),
        partial(described, shape=(1, 1, 3, 8, 8)),
        image_token_id=IMAGE,
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 4,
            "num_key_value_heads": 2,
            "hidden_size": 16,
        },
    ),
    _vlm(
        "Aya Vision",
        "AyaVision",
        _sixteen,
        _config("Cohere2Config", TEXT),
        image_token_index=IMAGE,
        downsample_factor=2,
        vision_feature_select_strategy="full",
        own={"lengths": (9, 16, 7, 12)},
    ),
    _vlm(
        "Mistral 3",
        "Mistral3",
        _config("PixtralVisionConfig", VISION, head_dim=4, image_size=16),
        _config("MistralConfig", TEXT),
        partial(described, size=16, extra=lambda _: {"image_sizes": torch.tensor([[16, 16]])}),
        image_token_index=IMAGE,
        spatial_merge_size=2,
    ),
    _vlm(
        "Mllama",
        "Mllama",
        _config(
            "MllamaVisionConfig",
            VISION,
            attention_heads=4,
            num_global_layers=1,
            intermediate_layers_indices=[0],
            vision_output_dim=32,
            max_num_tiles=1,
            supported_aspect_ratios=[[1, 1]],
        ),
        _config(
            "MllamaTextConfig",
            TEXT,
            num_hidden_layers=2,
            cross_attention_layers=[1],
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
        partial(described, tokens=1, extra=_crossing, shape=(1, 1, 1, 3, 8, 8)),
        image_token_index=IMAGE,
    ),
    _qwen("Qwen 2 VL", "Qwen2VL", QWEN2_VISION),
    _qwen(
        "Qwen 2.5 VL",
        "Qwen2_5_VL",
        QWEN2_VISION | {"intermediate_size": 24, "out_hidden_size": 16, "window_size": 8, "fullatt_block_indexes": [0]},
    ),
    _qwen(
        "Qwen 3 VL",
        "Qwen3VL",
        QWEN2_VISION
        | {
            "intermediate_size": 24,
            "out_hidden_size": 16,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    ),
    _vlm("LLaVA, text layers", "Llava", _clip, _llama, image_token_index=IMAGE, own={"only": ("language_model",)}),
    _vlm(
        "Gemma 3, text layers",
        "Gemma3",
        _siglip,
        _config("Gemma3TextConfig", TEXT, sliding_window=4),
        partial(described, extra=_kinds),
        image_token_index=IMAGE,
        mm_tokens_per_image=4,
        boi_token_index=1,
        eoi_token_index=2,
        own={"only": ("language_model",)},
    ),
    _qwen("Qwen 2 VL, text layers", "Qwen2VL", QWEN2_VISION, ("language_model",)),
    _qwen(
        "Qwen 2.5 VL, text layers",
        "Qwen2_5_VL",
        QWEN2_VISION | {"intermediate_size": 24, "out_hidden_size": 16, "window_size": 8, "fullatt_block_indexes": [0]},
        ("language_model",),
    ),
    _qwen(
        "Qwen 3 VL, text layers",
        "Qwen3VL",
        QWEN2_VISION
        | {
            "intermediate_size": 24,
            "out_hidden_size": 16,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        ("language_model",),
    ),
    family(
        "GIT",
        "image and text",
        "GitForCausalLM",
        "GitConfig",
        partial(described, tokens=0),
        LLAMA,
        {"vision_config": VISION, "num_key_value_heads": ...},
    ),
    _pair("CLIP", "CLIP", TEXT | {"eos_token_id": 2}, projection_dim=8),
    _pair("CLIPSeg", "CLIPSeg", TEXT | {"eos_token_id": 2}, projection_dim=8),
    _pair("Chinese CLIP", "ChineseCLIP", TEXT, projection_dim=8),
    _pair("AltCLIP", "AltCLIP", TEXT | {"project_dim": 8}, projection_dim=8),
    Family(
        "VisionEncoderDecoder",
        "captioning",
        vision_encoder_decoder,
        read,
        aligned,
        paddings=("right",),
        own_axes=frozenset({"labels"}),
    ),
    family(
        "Florence 2",
        "captioning",
        "Florence2ForConditionalGeneration",
        "Florence2Config",
        partial(described, tokens=5),
        {
            "text_config": {"model_type": "bart", **{k: v for k, v in BART.items() if v is not ...}},
            "vision_config": {
                "embed_dim": [8, 8],
                "depths": [1, 1],
                "num_heads": [1, 1],
                "num_groups": [1, 1],
                "patch_size": [3, 3],
                "patch_stride": [2, 2],
                "patch_padding": [1, 1],
                "patch_prenorm": [False, True],
                "window_size": 2,
                "projection_dim": 16,
            },
            "image_token_id": IMAGE,
            "labels": aligned,
            "lengths": (10, 13, 8, 11),
            "own_axes": frozenset({"labels"}),
        },
    ),
)
