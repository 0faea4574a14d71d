"""What holds for every method: what is trained, what stays, that runs repeat, and what each says of itself."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from lora_da_bench.methods.registry import METHODS, get_method
from methods.setups import KINDS, RANK, initialised, layers_in, logits_of, setup_of

KEEPS_FUNCTION = {"lora", "pissa", "eva", "corda", "lora-ga-peft", "lora-da-zero-b", "lora-da-no-fisher"}
KEEPS_BASE = {name for name in METHODS if name not in ("pissa", "corda", "lora-ga-peft")}


def _state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# LoRA-DA's variants differ in numbers alone, which one kind of model is enough for.
EVERY = [(name, kind) for name in METHODS for kind in KINDS if kind == "llama" or not name.startswith("lora-da-")]
EVERY = [pair for pair in EVERY if pair not in (("eva", "bert"), ("corda", "bert"))]  # which refuse classifiers


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_every_method(name: str, kind: str) -> None:
    setup = setup_of(kind)
    lora, batches, base = copy.deepcopy(setup.lora), copy.deepcopy(setup.batches), _state(setup.model)
    before = logits_of(setup.model, setup)
    model = initialised(name, setup)

    trained = {parameter_name for parameter_name, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if "lora_" not in n} == (
        {f"base_model.model.classifier.modules_to_save.default.{part}" for part in ("weight", "bias")}
        if kind == "bert"
        else set()
    )
    adapters = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    assert adapters
    assert not any(module.disable_adapters for module in adapters)
    assert sum("lora_" in n for n in trained) == 2 * len(adapters)
    assert {layer.A.shape[0] for layer in layers_in(model).values()} == {RANK}
    now = {n.replace(".base_layer", ""): tensor for n, tensor in _state(model.get_base_model()).items()}
    kept = {n for n in base.keys() & now.keys() if torch.equal(now[n], base[n])}
    layers = {f"{layer}.weight" for layer in layers_in(model)}
    assert kept == base.keys() & now.keys() - (set() if name in KEEPS_BASE else layers)
    assert setup.lora.to_dict() == lora.to_dict()
    for batch, was in zip(setup.batches, batches, strict=True):
        assert all(torch.equal(batch[key], was[key]) for key in was)
    assert not any(module.training for module in model.modules())  # as the base was

    change = (logits_of(model, setup) - before).abs().max()
    if name in KEEPS_FUNCTION:
        assert change < 1e-4
    else:
        assert change > 1e-3

    again = initialised(name, setup_of(kind)).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_who_says_to_use_data_does(name: str) -> None:
    one = initialised(name, setup_of()).state_dict()
    other = initialised(name, setup_of(data_seed=1)).state_dict()
    assert get_method(name).uses_data == any(not torch.equal(tensor, other[key]) for key, tensor in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_bases_get_float32_adapters(name: str) -> None:
    setup = setup_of(dtype=torch.bfloat16)
    before = logits_of(setup.model, setup)
    model = initialised(name, setup)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "lora_" in parameter_name else torch.bfloat16)
    change = (logits_of(model, setup) - before).abs().max()
    assert torch.isfinite(change)
    if name in KEEPS_FUNCTION:
        assert change < 0.1 * before.abs().max()


@pytest.mark.parametrize("name", ["lora", "random-norm-matched", "random-subspace"])
def test_random_matrices_come_from_the_seed(name: str) -> None:
    one, other = (layers_in(initialised(name, setup_of(seed=seed))) for seed in (0, 1))
    assert not any(torch.allclose(one[layer].A, other[layer].A) for layer in one)


def test_lists_in_the_configuration_stay_as_they_are() -> None:
    """PEFT appends the classifier's names to the list that it is given."""
    setup = setup_of("bert", modules_to_save=["classifier"])
    initialised("lora", setup)
    assert setup.lora.modules_to_save == ["classifier"]


def test_a_setup_in_training_mode_stays_there() -> None:
    setup = setup_of()
    setup.model.train()
    assert all(module.training for module in initialised("eva", setup).modules())


def test_batches_may_be_any_mapping() -> None:
    from transformers import BatchEncoding

    setup = setup_of()
    wrapped = dataclasses.replace(setup_of(), batches=[BatchEncoding(dict(batch)) for batch in setup.batches])
    for name in ("lora-da", "lora-ga-peft", "lora-da-shuffled-labels"):
        one, other = initialised(name, setup_of()).state_dict(), initialised(name, copy.deepcopy(wrapped)).state_dict()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
