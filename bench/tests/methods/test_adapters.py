"""PEFT's adapter on a setup's model."""

from __future__ import annotations

import pytest
import torch

from lora_da_bench.methods.adapters import add_adapter, find_factors, name_layers, refuse_classifiers, write_factors
from methods.setups import RANK, layers_in, logits_of, setup_of


def test_what_is_written_is_what_the_layers_compute_with() -> None:
    model = add_adapter(setup_of(), r=RANK - 1)
    written = {name: (torch.randn_like(A), torch.randn_like(B)) for name, (A, B) in find_factors(model).items()}
    write_factors(model, written)
    layers = layers_in(model)
    assert written.keys() == layers.keys()
    for name, (A, B) in written.items():
        assert len(A) == RANK - 1
        assert torch.equal(layers[name].A, A.double())
        assert torch.equal(layers[name].B, B.double())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_names_of_all_linear_layers_are_found_and_the_model_stays(kind: str) -> None:
    setup = setup_of(kind)
    before, modules = logits_of(setup.model, setup), [name for name, _ in setup.model.named_modules()]
    factors, config = name_layers(setup, r=2)
    assert config.r == 2
    assert set(config.target_modules or ()) == set(factors)  # one by one
    assert setup.lora.target_modules == "all-linear"
    assert [name for name, _ in setup.model.named_modules()] == modules
    assert torch.equal(logits_of(setup.model, setup), before)
    for name, (A, B) in factors.items():
        weight = setup.model.get_submodule(name).weight
        d_out, d_in = weight.shape if kind == "llama" else weight.shape[::-1]
        assert (A.shape, B.shape) == ((RANK, d_in), (d_out, RANK))


def test_classifiers_are_refused() -> None:
    with pytest.raises(ValueError, match="PEFT's CorDA serves language models alone"):
        refuse_classifiers(setup_of("bert"), "CorDA")
    refuse_classifiers(setup_of(), "CorDA")
