"""Settings that tests share."""

from __future__ import annotations

import dataclasses

from lora_da import LoraDAConfig

PARAMETERS = LoraDAConfig(metric="parameters", input_damping=0.1, init_scale="stable")
"""Distance between parameters, well damped: its step is never zero, however few the examples are."""

PRESETS = {
    "default": LoraDAConfig(population_size=1000),
    "parameters": dataclasses.replace(PARAMETERS, population_size=1000),
    "paper": dataclasses.replace(LoraDAConfig.paper(), population_size=1000),
    "released": dataclasses.replace(LoraDAConfig.released(), population_size=1000),
}
