from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lora_da.adapter.description import describe_model
from lora_da.adapter.wrapping import find_base_model
from models import LLAMA_TARGETS, tiny_llama, with_lora


def digest(model: nn.Module) -> str:
    return describe_model(find_base_model(model)).digest()


def test_adapters_and_places_are_no_part_of_a_model() -> None:
    wanted = digest(tiny_llama())
    targets = ["embed_tokens", *LLAMA_TARGETS]
    assert digest(with_lora(tiny_llama(), trained=True, target_modules=targets, lora_dropout=0.1)) == wanted
    assert digest(with_lora(tiny_llama(), target_modules=["q_proj"], modules_to_save=["lm_head"])) == wanted
    moved = tiny_llama()
    moved.config._name_or_path = "elsewhere"
    assert digest(moved) == wanted


def _entry(model: Any) -> None:
    model.lm_head.weight.data[-1, -1] += 1e-6


def _swap(model: Any) -> None:
    weight = model.model.layers[0].mlp.up_proj.weight.data
    weight[[0, 1]] = weight[[1, 0]].clone()


def _sign(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.weight.data.neg_()


def _buffer(model: Any) -> None:
    model.model.rotary_emb.inv_freq[0] *= 2


def _setting(model: Any) -> None:
    model.model.norm.variance_epsilon = 0.5


def _configuration(model: Any) -> None:
    model.config.rope_parameters["rope_theta"] = 1.0


def _module(model: Any) -> None:
    model.model.layers[0].mlp.act_fn = nn.GELU()


@pytest.mark.parametrize("change", [_entry, _swap, _sign, _buffer, _setting, _configuration, _module])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_changes_a_model_changes_its_digest(change: Callable[[Any], None], dtype: torch.dtype) -> None:
    first, other = tiny_llama().to(dtype), tiny_llama().to(dtype)
    if change is _entry and dtype == torch.bfloat16:
        other.lm_head.weight.data[-1, -1] += 1
    change(other)
    assert digest(first) != digest(other)


def test_what_differs_is_named() -> None:
    first, other = tiny_llama(), tiny_llama()
    _entry(other)
    mine, others = describe_model(first).shared, describe_model(other).shared
    assert [name for name in mine if mine[name] != others[name]] == ["the weight lm_head.weight"]
    assert mine["the weight lm_head.weight"].startswith("Parameter torch.float32 (37, 16) with digest ")
