"""An adapter with the ranks that statistics ask for, in place of one that was there."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from peft.tuners.lora import LoraLayer

from lora_da import LoraDAConfig, Statistics, choose_ranks, collect_statistics
from lora_da.workflows.own_ranks import adapt_with_own_ranks
from lora_da.workflows.settings import AdapterShape
from models import batches_of, causal_examples, tiny_llama


@functools.cache
def collected() -> Statistics:
    return collect_statistics(tiny_llama(), batches_of(causal_examples(12)), progress=False)


@pytest.mark.parametrize("on_meta", [False, True])
def test_each_layer_has_its_rank_and_all_have_one_scaling(on_meta: bool) -> None:
    shape, config = AdapterShape(rank="auto", rank_budget=3, alpha=6), LoraDAConfig(population_size=1000)
    statistics = collected()
    ranks = choose_ranks(statistics, config, budget=3, progress=False)
    assert len(set(ranks.values())) > 1
    model = shape.adapt(tiny_llama())
    weight = model.get_base_model().get_parameter("model.layers.0.mlp.up_proj.base_layer.weight")
    adapted = adapt_with_own_ranks(model, statistics, shape, config, on_meta=on_meta)
    layers: dict[str, Any] = {
        name: module for name, module in adapted.get_base_model().named_modules() if isinstance(module, LoraLayer)
    }
    assert {name: len(layer.lora_A["default"].weight) for name, layer in layers.items()} == ranks
    assert {round(layer.scaling["default"], 6) for layer in layers.values()} == {round(6 / 3**0.5, 6)}
    assert all((layer.lora_A["default"].weight.device.type == "meta") == on_meta for layer in layers.values())
    assert layers["model.layers.0.mlp.up_proj"].get_base_layer().weight is weight
