"""An adapter whose layers have the ranks that the data ask for."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from peft import PeftModel

from lora_da.adapter.layers import find_adapted_layers
from lora_da.config import LoraDAConfig
from lora_da.pipeline.rank_choice import choose_ranks
from lora_da.statistics.sums import Statistics
from lora_da.workflows.settings import AdapterShape


def adapt_with_own_ranks(
    peft_model: PeftModel,
    statistics: Statistics,
    shape: AdapterShape,
    config: LoraDAConfig,
    *,
    on_meta: bool = False,
) -> PeftModel:
    """Replace a model's adapter by one with the ranks that the statistics of its layers ask for.

    Args:
        peft_model: The model, with an adapter on the same layers.
        statistics: Theirs.
        shape: The adapter's shape.
        config: The settings.
        on_meta: Whether the adapter is made without memory, as that of a model without weights.
    """
    layers, _ = find_adapted_layers(peft_model, "default")
    ranks = choose_ranks(statistics, config, layers=layers, budget=shape.rank_budget)
    with torch.device("meta") if on_meta else nullcontext():
        return shape.adapt(peft_model.unload(), ranks, low_cpu_mem_usage=on_meta)
