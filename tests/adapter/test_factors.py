from __future__ import annotations

import pytest
import torch

from lora_da.adapter.factors import write_factors
from lora_da.adapter.layers import find_adapted_layers
from models import tiny_llama, with_lora


def test_values_change_and_parameters_stay_the_same_objects() -> None:
    model = with_lora(tiny_llama())
    layers, _ = find_adapted_layers(model, "default")
    before = dict(model.named_parameters())
    copies = {name: parameter.clone() for name, parameter in before.items()}
    name = "model.layers.0.mlp.up_proj"
    A, B = torch.randn(4, 16, dtype=torch.float64), torch.randn(24, 4, dtype=torch.float64)
    write_factors(layers, {name: (A, B)})
    assert torch.equal(layers[name].A, A.float())
    assert torch.equal(layers[name].B, B.float())
    for key, parameter in model.named_parameters():
        assert parameter is before[key]
        assert parameter.requires_grad == ("lora_" in key)
        if name not in key or "lora_" not in key:
            assert torch.equal(parameter, copies[key])


@pytest.mark.parametrize(
    ("A", "B", "message"),
    [
        (torch.zeros(4, 16), torch.zeros(4, 24), r"layer .*down_proj: \(4, 16\) can't be written to \(4, 24\)"),
        (torch.zeros(4, 24), torch.full((16, 4), torch.nan), r"layer .*down_proj: its starting point exceeds"),
        (torch.full((4, 24), 1e300, dtype=torch.float64), torch.zeros(16, 4), "exceeds the range of torch.float32"),
    ],
)
def test_an_error_leaves_every_layer_as_it_was(A: torch.Tensor, B: torch.Tensor, message: str) -> None:
    model = with_lora(tiny_llama(), trained=True)
    layers, _ = find_adapted_layers(model, "default")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    good = {"model.layers.0.mlp.up_proj": (torch.ones(4, 16), torch.ones(24, 4))}
    with pytest.raises(ValueError, match=message):
        write_factors(layers, good | {"model.layers.0.mlp.down_proj": (A, B)})
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
