from __future__ import annotations

from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn

from lora_da.adapter.layers import find_active_adapter, find_adapted_layers, find_linear_layers, split_by_rank
from models import positionwise, tiny_bert, tiny_gpt2, tiny_llama, tiny_t5, tiny_vit, with_lora


def test_served_layers_have_the_base_models_names_and_their_own_settings() -> None:
    base = tiny_llama()
    weights = {name: module for name, module in base.named_modules() if name.endswith(("q_proj", "down_proj"))}
    model = with_lora(
        base,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
        alpha_pattern={"q_proj": 3},
        use_rslora=True,
    )
    layers, refused = find_adapted_layers(model, "default")
    assert refused == {}
    assert list(layers) == list(weights)
    for name, layer in layers.items():
        wrapper: Any = model.get_base_model().get_submodule(name)
        assert layer.base is weights[name]
        assert layer.A is wrapper.lora_A["default"].weight
        assert layer.B is wrapper.lora_B["default"].weight
        rank, alpha = (2, 8) if "down" in name else (4, 3)
        assert layer.rank == rank
        assert layer.scaling == pytest.approx(alpha / rank**0.5)


def test_transposed_layers_are_served() -> None:
    layers, refused = find_adapted_layers(with_lora(tiny_gpt2(), target_modules=["c_attn", "c_fc"]), "default")
    assert refused == {}
    assert layers["transformer.h.0.attn.c_attn"].A.shape == (4, 16)
    assert layers["transformer.h.0.attn.c_attn"].B.shape == (48, 4)


def test_embeddings_and_convolutions_are_refused_by_name() -> None:
    served, refused = find_adapted_layers(with_lora(tiny_llama(), target_modules=["embed_tokens", "q_proj"]), "default")
    assert len(served) == 2
    assert refused == {"model.embed_tokens": "is no linear layer (Embedding)"}
    model = tiny_vit()
    (name,) = (name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    (linear, *_) = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    _, refused = find_adapted_layers(with_lora(model, target_modules=[name, linear]), "default")
    assert refused == {name: "is no linear layer (Conv2d)"}


def test_dora_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no layer of the adapter can be.*q_proj: uses a variant of LoRA \(Dora"):
        find_adapted_layers(with_lora(tiny_llama(), use_dora=True), "default")


def test_attention_of_torch_is_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.linear = nn.MultiheadAttention(8, 2), nn.Linear(8, 8)

    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["attention", "linear"]))
    served, refused = find_adapted_layers(model, "default")
    assert "linear" in served
    assert "attention" not in served
    assert refused["attention"] == "is no linear layer (MultiheadAttention)"


def test_models_without_the_adapter() -> None:
    with pytest.raises(ValueError, match="the model has no LoRA adapter; make one with peft"):
        find_adapted_layers(tiny_llama(), "default")
    model = with_lora(tiny_llama())
    model.add_adapter("second", model.peft_config["default"])
    with pytest.raises(ValueError, match="no LoRA adapter named 'third'; it has default, second"):
        find_adapted_layers(model, "third")


def test_layers_without_this_adapter_are_left_out() -> None:
    model = with_lora(tiny_llama())
    model.add_adapter("second", LoraConfig(r=2, target_modules=["o_proj"]))
    assert [name.split(".")[-1] for name in find_adapted_layers(model, "second")[0]] == ["o_proj", "o_proj"]
    assert len(find_adapted_layers(model, "default")[0]) == 14


def test_layers_narrower_than_their_rank_are_set_aside() -> None:
    wide, narrow = split_by_rank(find_adapted_layers(with_lora(tiny_llama(), r=17), "default")[0])
    assert {name.split(".")[-1] for name in wide} == {"down_proj"}  # 24 wide, all others 16
    assert len(wide) + len(narrow) == 14
    assert narrow["model.layers.0.self_attn.q_proj"] == "has rank 17, above its input width 16: lower its rank"
    layers, _ = find_adapted_layers(with_lora(tiny_llama(), r=16, target_modules=["k_proj"]), "default")
    assert split_by_rank(layers) == (layers, {})  # above the output width it may be
    layers, _ = find_adapted_layers(with_lora(tiny_llama(), r=17, target_modules=["k_proj"]), "default")
    with pytest.raises(ValueError, match=r"no layer .* can be initialised: layer .*k_proj has rank 17, above"):
        split_by_rank(layers)


def test_merged_adapters_are_an_error() -> None:
    model = with_lora(tiny_llama(), trained=True)
    model.merge_adapter()
    with pytest.raises(ValueError, match=r"an adapter is merged into layer .*; call unmerge_adapter\(\) first"):
        find_adapted_layers(model, "default")
    model.unmerge_adapter()
    assert find_adapted_layers(model, "default")[0]


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
def test_inits_that_change_the_base_are_an_error(init: str) -> None:
    with pytest.raises(ValueError, match=f"init_lora_weights='{init}', which changes the base weights"):
        find_adapted_layers(with_lora(tiny_llama(), init_lora_weights=init), "default")


@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal"])
def test_inits_that_leave_the_base_alone_are_fine(init: Any) -> None:
    assert find_adapted_layers(with_lora(tiny_llama(), init_lora_weights=init), "default")[0]


def test_linear_layers_are_those_of_all_linear() -> None:
    for make in (tiny_llama, tiny_gpt2, tiny_t5):
        found = list(find_linear_layers(make()))
        wanted = find_adapted_layers(with_lora(make(), target_modules="all-linear", task_type=None), "default")[0]
        assert found == list(wanted)
    assert list(find_linear_layers(positionwise())) == ["once", "twice", "unused", "head"]
    assert "classifier" in find_linear_layers(tiny_bert())


def test_the_active_adapter() -> None:
    model: Any = with_lora(tiny_llama())
    assert find_active_adapter(model) == "default"
    for name in ("second", "third"):
        model.add_adapter(name, model.peft_config["default"])
    model.set_adapter("second")
    assert find_active_adapter(model) == "second"
    model.base_model.set_adapter(["second", "default"])
    assert find_active_adapter(model) == "default"
    model.base_model.set_adapter(["second", "third"])
    with pytest.raises(ValueError, match="several adapters are active"):
        find_active_adapter(model)
    assert find_active_adapter(tiny_llama()) == "default"
