from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.adapter.materialisation import materialise_adapter
from models import batches_of, causal_examples, tiny_llama


def _on_meta(*targets: str) -> Any:
    config = LoraConfig(r=2, target_modules=list(targets or ("q_proj", "v_proj")))
    return get_peft_model(tiny_llama(), config, low_cpu_mem_usage=True)


def test_adapters_on_the_meta_device_are_given_the_same_weights_as_others() -> None:
    batches = batches_of(causal_examples(8))
    found, wanted = _on_meta(), get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    assert collect_statistics(found, batches, progress=False).layers  # which needs no adapter
    for model in (found, wanted):
        initialize_lora_da_weights(model, batches, progress=False)
    parameters = dict(found.named_parameters())
    assert all(torch.equal(parameters[name], parameter) for name, parameter in wanted.named_parameters())


def test_what_is_not_initialised_starts_as_peft_starts_it() -> None:
    model = _on_meta("q_proj", "embed_tokens")
    state = torch.get_rng_state()
    materialise_adapter(model, "default")
    assert torch.equal(torch.get_rng_state(), state)
    for layer in model.base_model.model.model.layers:
        A, B = layer.self_attn.q_proj.lora_A["default"].weight, layer.self_attn.q_proj.lora_B["default"].weight
        assert 0 < float(A.detach().abs().max()) <= 1 / math.sqrt(16)
        assert not bool(B.any())
    embedding = model.base_model.model.model.embed_tokens
    assert not bool(embedding.lora_embedding_A["default"].any())
    assert bool(embedding.lora_embedding_B["default"].any())


def test_a_base_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer .*q_proj is on the meta device, with its adapter"):
        materialise_adapter(_on_meta().to("meta"), "default")
