from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lora_da.adapter.activation import adapters_disabled, only_adapter_active
from models import tiny_llama, with_lora


def _flags(model: nn.Module) -> Any:
    layers = [m for m in model.modules() if hasattr(m, "disable_adapters")]
    return [(m.active_adapters, m.disable_adapters) for m in layers], [p.requires_grad for p in model.parameters()]


def _two_adapters() -> Any:
    model = with_lora(tiny_llama(), trained=True)
    model.add_adapter("second", model.peft_config["default"])
    model.set_adapter("second")
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 == 0)
    return model


@pytest.mark.parametrize("context", [adapters_disabled, lambda model: only_adapter_active(model, "default")])
def test_active_adapters_and_gradients_come_back(context: Any) -> None:
    model = _two_adapters()
    model.base_model.model.get_submodule("model.layers.0.mlp.up_proj").enable_adapters(False)
    before = _flags(model)
    inside: list[Any] = []

    def interrupted() -> None:
        with context(model):
            inside.append(_flags(model))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside != [before]
    assert _flags(model) == before


def test_disabled_adapters_leave_the_base_and_one_active_adapter_itself() -> None:
    tokens = torch.arange(3, 9)[None]
    model = _two_adapters()
    with torch.no_grad():
        wanted = tiny_llama()(tokens).logits
        with adapters_disabled(model):
            assert torch.equal(model(tokens).logits, wanted)
        with only_adapter_active(model, "default"):
            found = model(tokens).logits
        assert torch.equal(model(tokens).logits, wanted)  # "second" is fresh
        model.set_adapter("default")
        assert torch.equal(model(tokens).logits, found)
        assert not torch.equal(found, wanted)
