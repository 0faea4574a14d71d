from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lora_da import collect_statistics
from lora_da.adapter.layers import find_linear_layers
from lora_da.statistics.losses.objective import Objective
from lora_da.statistics.shared_inputs import find_shared_inputs
from models import (
    causal_examples,
    classified_examples,
    collate,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_t5,
    translated_examples,
)


@pytest.mark.parametrize(
    ("make", "examples"),
    [
        (tiny_llama, causal_examples),
        (tiny_gpt2, causal_examples),
        (tiny_bert, classified_examples),
        (tiny_t5, translated_examples),
    ],
)
def test_the_groups_are_those_of_the_collection(make: Callable[[], Any], examples: Callable[[int], Any]) -> None:
    model, batch = make(), collate(examples(3))
    wanted = collect_statistics(model, [batch], progress=False).input_groups
    found = find_shared_inputs(Objective(model), find_linear_layers(model), batch)
    assert {name: found[name] for name in wanted} == wanted
    assert all(found[name] == name for name in found.keys() - wanted.keys())


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_llama().train()
    before = torch.get_rng_state()
    find_shared_inputs(Objective(model), find_linear_layers(model), collate(causal_examples(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_is_not_reached_shares_with_none() -> None:
    model = tiny_llama()
    model.spare = torch.nn.Linear(3, 3)
    assert (
        find_shared_inputs(Objective(model), find_linear_layers(model), collate(causal_examples(1)))["spare"] == "spare"
    )
