"""Images and videos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from families.family import Example, Family, family, generator_of, one, pictures

VIT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
    "labels": one,
    "paddings": (),
}
STAGES: dict[str, Any] = {"num_labels": 3, "labels": one, "paddings": (), "image_size": 32}
SWIN: dict[str, Any] = STAGES | {
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
    "patch_size": 2,
    "image_size": 8,
}


def _image(
    name: str,
    prefix: str,
    *settings: Any,
    size: int = 8,
    task: str = "image classification",
    model: str = "ForImageClassification",
) -> Family:
    return family(name, task, f"{prefix}{model}", f"{prefix}Config", partial(pictures, size=size), *settings)


def videos(lengths: Sequence[int], *, frames: int = 2, size: int = 8) -> list[Example]:
    """One short video an example, with a class."""
    generator = generator_of()
    return [
        {"pixel_values": torch.randn(1, frames, 3, size, size, generator=generator), "labels": torch.tensor([i % 3])}
        for i, _ in enumerate(lengths)
    ]


def segmented(lengths: Sequence[int], *, size: int = 32) -> list[Example]:
    """A class for each pixel."""
    examples = pictures(lengths, size=size)
    for example in examples:
        example["labels"] = (example["pixel_values"][:, 0] * 5).long().abs() % 3
    return examples


def pixels(example: Example) -> float:
    """The mean runs over the pixels."""
    return float(example["labels"].numel())


FAMILIES = (
    _image("ViT", "ViT", VIT),
    _image("DeiT", "DeiT", VIT),
    _image("BEiT", "Beit", VIT),
    _image("Data2Vec vision", "Data2VecVision", VIT),
    _image("DINOv2", "Dinov2", VIT),
    _image("DINOv2 with registers", "Dinov2WithRegisters", VIT),
    _image("I-JEPA", "IJepa", VIT),
    _image("ViT-MSN", "ViTMSN", VIT),
    _image(
        "SigLIP",
        "Siglip",
        {
            "vision_config": {key: VIT[key] for key in VIT if key not in ("labels", "paddings", "num_labels")},
            "num_labels": 3,
            "labels": one,
            "paddings": (),
        },
    ),
    _image(
        "CLIP",
        "CLIP",
        {
            "vision_config": {key: VIT[key] for key in VIT if key not in ("labels", "paddings", "num_labels")},
            "num_labels": 3,
            "labels": one,
            "paddings": (),
        },
    ),
    _image("Swin", "Swin", SWIN),
    _image("Swin v2", "Swinv2", SWIN),
    _image("ConvNeXt", "ConvNext", STAGES | {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2}, size=32),
    _image("ConvNeXt v2", "ConvNextV2", STAGES | {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2}, size=32),
    _image(
        "ResNet",
        "ResNet",
        {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "num_labels": 3, "labels": one, "paddings": ()},
        size=32,
    ),
    _image(
        "RegNet",
        "RegNet",
        {
            "embedding_size": 8,
            "hidden_sizes": [8, 8],
            "depths": [1, 1],
            "num_labels": 3,
            "groups_width": 4,
            "labels": one,
            "paddings": (),
        },
        size=32,
    ),
    _image(
        "PVT v2",
        "PvtV2",
        STAGES | {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
        size=32,
    ),
    _image("PoolFormer", "PoolFormer", STAGES | {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}, size=32),
    _image(
        "LeViT",
        "Levit",
        STAGES
        | {"hidden_sizes": [16, 16, 16], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "key_dim": [4, 4, 4]},
        size=32,
    ),
    _image(
        "CvT",
        "Cvt",
        {
            "embed_dim": [8, 8, 8],
            "num_heads": [1, 2, 2],
            "depth": [1, 2, 3],
            "drop_path_rate": [0.0, 0.0, 0.0],
            "num_labels": 3,
            "labels": one,
            "paddings": (),
        },
        size=32,
    ),
    _image(
        "FocalNet",
        "FocalNet",
        STAGES
        | {"embed_dim": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3]},
        size=32,
    ),
    _image(
        "Hiera",
        "Hiera",
        STAGES
        | {
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "image_size": [16, 16],
            "patch_size": [3, 3],
            "patch_stride": [2, 2],
            "patch_padding": [1, 1],
            "query_stride": [2, 2],
            "num_query_pool": 1,
            "masked_unit_size": [2, 2],
        },
        size=16,
    ),
    _image(
        "MobileViT",
        "MobileViT",
        STAGES | {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 8], "num_attention_heads": 2},
        size=32,
    ),
    _image(
        "SegFormer",
        "Segformer",
        STAGES
        | {
            "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 8,
        },
        size=32,
    ),
    family(
        "SegFormer",
        "semantic segmentation",
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        segmented,
        STAGES
        | {
            "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 8,
            "labels": pixels,
        },
    ),
    family(
        "VideoMAE",
        "video classification",
        "VideoMAEForVideoClassification",
        "VideoMAEConfig",
        videos,
        VIT,
        {"num_frames": 2, "tubelet_size": 1},
    ),
    family(
        "TimeSformer",
        "video classification",
        "TimesformerForVideoClassification",
        "TimesformerConfig",
        videos,
        VIT,
        {"num_frames": 2},
    ),
    family(
        "ViViT",
        "video classification",
        "VivitForVideoClassification",
        "VivitConfig",
        videos,
        VIT,
        {"num_frames": 2, "tubelet_size": [1, 4, 4]},
    ),
    family(
        "Perceiver",
        "image classification",
        "PerceiverForImageClassificationLearned",
        "PerceiverConfig",
        partial(pictures, size=8),
        {
            "num_latents": 4,
            "d_latents": 16,
            "d_model": 16,
            "num_blocks": 1,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "image_size": 8,
            "num_labels": 3,
            "labels": one,
            "paddings": (),
        },
    ),
)
