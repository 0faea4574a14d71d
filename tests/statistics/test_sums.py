from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from lora_da import CollectionConfig, Statistics, collect_statistics
from lora_da.statistics.sums import ModelIdentity
from models import Example, batches_of, causal_examples, tiny_llama
from reference import assert_sums_agree

EXAMPLES = causal_examples(9)
FULL = CollectionConfig(output_factor="full")


def _collect(examples: list[Example], config: CollectionConfig = FULL) -> Statistics:
    return collect_statistics(tiny_llama().double(), batches_of(examples, 4), config, progress=False)


def test_sums_of_two_parts_are_those_of_the_whole() -> None:
    whole, added = _collect(EXAMPLES), _collect(EXAMPLES[:3]) + _collect(EXAMPLES[3:])
    assert added.input_groups == whole.input_groups
    assert added.tokens == whole.tokens
    assert added.examples == whole.examples == 9
    assert added.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
    assert_sums_agree(added, whole, 1e-12)


def test_adding_leaves_the_parts_alone() -> None:
    first, second = _collect(EXAMPLES[:3]), _collect(EXAMPLES[3:])
    name = first.layers[0]
    before = first.gradient_sums[name].clone()
    total = first + second
    assert torch.equal(first.gradient_sums[name], before)
    assert torch.equal(total.gradient_sums[name], before + second.gradient_sums[name])


def test_population_and_batch_dependence_of_a_union() -> None:
    part = _collect(EXAMPLES[:3])
    known = dataclasses.replace(part, population_size=100)
    assert (known + known).population_size is None  # one data set of 100, or two?
    assert not (part + part).batch_dependent
    assert (part + dataclasses.replace(part, batch_dependent=True)).batch_dependent


def test_different_settings_models_layers_and_shapes_do_not_add() -> None:
    part = _collect(EXAMPLES[:3])
    with pytest.raises(ValueError, match=r"statistics of different settings don't add.*mean"):
        part + _collect(EXAMPLES[3:6], dataclasses.replace(FULL, loss_reduction="mean"))
    other = collect_statistics(tiny_llama(seed=1).double(), batches_of(EXAMPLES), FULL, progress=False)
    with pytest.raises(ValueError, match="statistics of different models don't add"):
        part + other
    groups = part.input_groups | {"model.layers.0.self_attn.k_proj": "model.layers.0.self_attn.k_proj"}
    with pytest.raises(ValueError, match="k_proj shares its input with others in one of them"):
        part + dataclasses.replace(part, input_groups=groups)
    narrow = collect_statistics(tiny_llama(intermediate_size=8).double(), batches_of(EXAMPLES), FULL, progress=False)
    with pytest.raises(ValueError, match=r"statistics of layer .*mlp.* don't add: its shapes are"):
        part + dataclasses.replace(narrow, model=part.model)
    with pytest.raises(TypeError):
        part + 1  # type: ignore[operator]


def test_a_layer_that_only_one_part_reached_is_kept() -> None:
    part = _collect(EXAMPLES[:3])
    expert, group = "model.layers.1.mlp.down_proj", "model.layers.1.mlp.gate_proj"
    without = _without(part, expert)
    for total in (part + without, without + part):
        assert total[expert].tokens == part[expert].tokens
        assert torch.equal(total[expert].gradient_sum, part[expert].gradient_sum)
        assert total[expert].examples == 6
        assert total[group].tokens == 2 * part[group].tokens
    with pytest.raises(ValueError, match=r"only one of .* was reached"):
        part + _without(part, "model.layers.1.mlp.up_proj")


def _without(part: Statistics, layer: str) -> Statistics:
    """As if the layer had not been reached."""

    def rest(by_name: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in by_name.items() if name != layer}

    return dataclasses.replace(
        part,
        gradient_sums=rest(part.gradient_sums),
        output_sums=rest(part.output_sums),
        input_sums=rest(part.input_sums),
        input_groups=rest(part.input_groups),
        tokens=rest(part.tokens),
    )


def test_layers_by_name() -> None:
    part = _collect(EXAMPLES[:2])
    layer = part["model.layers.0.self_attn.v_proj"]
    assert layer.gradient_sum.shape == (8, 16)
    assert layer.input_sum is part.input_sums["model.layers.0.self_attn.q_proj"]
    assert layer.examples == 2
    assert layer.tokens == sum(len(example["input_ids"]) for example in EXAMPLES[:2])
    with pytest.raises(KeyError, match="no statistics of a layer 'lm_head'; there are 14"):
        part["lm_head"]


def test_identity_survives_rounding_but_not_another_model() -> None:
    signature = torch.randn(256, generator=torch.Generator().manual_seed(0))
    mine = ModelIdentity("here/model", "1", signature)
    assert mine.matches(ModelIdentity("elsewhere", None, signature.bfloat16().float()))
    assert not mine.matches(ModelIdentity("here/model", "1", -signature))
    assert not mine.matches(ModelIdentity("here/model", "1", signature[:100]))


def test_identity_without_signatures_goes_by_name() -> None:
    assert ModelIdentity("a").matches(ModelIdentity("a"))
    assert not ModelIdentity("a").matches(ModelIdentity("b"))
    assert ModelIdentity("a").matches(ModelIdentity())
