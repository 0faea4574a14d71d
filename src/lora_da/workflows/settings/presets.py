"""The settings that commands offer by name."""

from __future__ import annotations

import dataclasses

from lora_da.config import LoraDAConfig

PRESETS = {"default": LoraDAConfig, "paper": LoraDAConfig.paper, "released": LoraDAConfig.released}


def preset_config(preset: str, seed: int) -> LoraDAConfig:
    """Make the settings of a preset.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[preset](), seed=seed)
