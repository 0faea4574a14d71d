"""Bases in 4 and 8 bits of several libraries, against the same weights in full precision."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da import collect_statistics, freeze_a, initialize_lora_da_weights
from lora_da.adapter.description import describe_model
from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.wrapping import find_base_model
from models import batches_of, causal_examples, tiny_llama, with_lora
from presets import PARAMETERS
from reference import distance

BATCHES = batches_of(causal_examples(12), 4)
CONFIG = dataclasses.replace(PARAMETERS, population_size=100)
Dequantise = Callable[[Any], Tensor]


def base() -> Any:
    return tiny_llama(hidden_size=64, intermediate_size=128, num_hidden_layers=1)


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        pytest.skip(f"{name} can't be imported here: {error}")


def replaced(make: Callable[[nn.Linear], nn.Module]) -> Any:
    """The base with other layers in place of its linear ones."""
    model = base()
    for block in model.model.layers:
        for part in (block.self_attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, make(layer))
    return model


def bitsandbytes_4bit() -> tuple[Any, Dequantise]:
    bitsandbytes, functional = library("bitsandbytes"), library("bitsandbytes.functional")

    def make(layer: nn.Linear) -> Any:
        quantised = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=False, quant_type="nf4", compute_dtype=torch.float32
        )
        quantised.load_state_dict({"weight": layer.weight.detach()})
        return quantised.to("cpu")

    return replaced(make), lambda layer: functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def bitsandbytes_8bit() -> tuple[Any, Dequantise]:
    bitsandbytes = library("bitsandbytes")

    def make(layer: nn.Linear) -> Any:
        quantised = bitsandbytes.nn.Linear8bitLt(
            layer.in_features, layer.out_features, bias=False, has_fp16_weights=False
        )
        quantised.load_state_dict({"weight": layer.weight.detach()})
        return quantised.to("cpu")

    return replaced(make), lambda layer: layer.weight.CB * layer.weight.SCB[:, None] / 127


def torchao_8bit() -> tuple[Any, Dequantise]:
    quantization = library("torchao.quantization")
    model = base()
    quantization.quantize_(model.model.layers, quantization.Int8WeightOnlyConfig())
    return model, lambda layer: layer.weight.dequantize()


def hqq_4bit() -> tuple[Any, Dequantise]:
    hqq = library("hqq.core.quantize")
    config = hqq.BaseQuantizeConfig(nbits=4, group_size=64)
    make = lambda layer: hqq.HQQLinear(layer, config, compute_dtype=torch.float32, device="cpu")  # noqa: E731
    return replaced(make), lambda layer: layer.dequantize()


def quanto_8bit() -> tuple[Any, Dequantise]:
    quanto = library("optimum.quanto")
    model = base()
    quanto.quantize(model.model.layers, weights=quanto.qint8)
    quanto.freeze(model.model.layers)
    return model, lambda layer: layer.qweight.dequantize()


# bitsandbytes rounds the inputs of its 8-bit layers too.
@pytest.mark.parametrize(
    ("make", "tolerance"),
    [(bitsandbytes_4bit, 1e-3), (bitsandbytes_8bit, 0.2), (torchao_8bit, 1e-3), (hqq_4bit, 1e-3), (quanto_8bit, 1e-3)],
)
def test_the_statistics_are_those_of_the_dequantised_weights(
    make: Callable[[], tuple[Any, Dequantise]], tolerance: float
) -> None:
    quantised, dequantise = make()
    plain = base()
    for name, module in quantised.named_modules():
        if name.endswith("_proj"):
            plain.get_submodule(name).weight.data.copy_(dequantise(module))
    found = collect_statistics(with_lora(quantised), BATCHES, progress=False)
    wanted = collect_statistics(plain, BATCHES, progress=False)
    assert found.layers == wanted.layers
    assert found.tokens == wanted.tokens
    for name in wanted.layers:
        assert distance(found.gradient_sums[name], wanted.gradient_sums[name]) <= tolerance, name
        assert distance(found[name].input_sum, wanted[name].input_sum) <= tolerance, name


@pytest.mark.parametrize("make", [bitsandbytes_4bit, bitsandbytes_8bit, torchao_8bit, hqq_4bit, quanto_8bit])
def test_an_adapter_on_a_quantised_base(make: Callable[[], tuple[Any, Dequantise]]) -> None:
    model = with_lora(make()[0]).train()  # in evaluation mode bitsandbytes may repack the weights for good
    ids = BATCHES[0]["input_ids"]
    with model.disable_adapter(), torch.no_grad():
        before = model(input_ids=ids).logits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = initialize_lora_da_weights(model, BATCHES, CONFIG, progress=False)
    assert len(report.layers) == 7
    assert report.loss_after is not None
    assert report.loss_before is not None
    assert report.loss_after < report.loss_before
    with model.disable_adapter(), torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("make", [bitsandbytes_4bit, bitsandbytes_8bit, torchao_8bit, hqq_4bit, quanto_8bit])
def test_with_a_frozen_b_has_the_same_gradients(make: Callable[[], tuple[Any, Dequantise]]) -> None:
    model: Any = with_lora(make()[0], trained=True).train()
    model(**BATCHES[0]).loss.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if ".lora_B." in name}
    model.zero_grad()
    assert freeze_a(model) == sum(gradient.numel() for gradient in wanted.values())
    model(**BATCHES[0]).loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(gradient, wanted[name]) for name, gradient in found.items())


@pytest.mark.parametrize("make", [bitsandbytes_4bit, bitsandbytes_8bit, torchao_8bit, hqq_4bit, quanto_8bit])
def test_weights_in_few_bits_have_digests(make: Callable[[], tuple[Any, Dequantise]]) -> None:
    first, same, other = make()[0], make()[0], base()
    assert describe_model(first) == describe_model(same) == describe_model(find_base_model(with_lora(same)))
    assert describe_model(first).digest() != describe_model(other).digest()


def test_statistics_in_full_precision_serve_the_quantised_base() -> None:
    statistics = collect_statistics(base(), BATCHES, progress=False)
    quantised, plain = with_lora(bitsandbytes_4bit()[0]), with_lora(base())
    for model in (quantised, plain):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            initialize_lora_da_weights(model, config=CONFIG, statistics=statistics, progress=False)
    mine, others = (find_adapted_layers(model, "default")[0] for model in (quantised, plain))
    for name, layer in others.items():
        torch.testing.assert_close(mine[name].A.float(), layer.A)
        torch.testing.assert_close(mine[name].B.float(), layer.B)


def test_what_a_quantiser_keeps_beside_the_weights_is_seen() -> None:
    first, other = bitsandbytes_4bit()[0], bitsandbytes_4bit()[0]
    layer = next(module for name, module in other.named_modules() if name.endswith("q_proj"))
    layer.weight.quant_state.absmax.mul_(2)
    assert describe_model(first).digest() != describe_model(other).digest()
