"""LoRA-GA, LoRA-One and MiLoRA against their papers' equations in float64, with autograd's own gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from lora_da_bench.methods.adapters import with_adapter
from lora_da_bench.methods.gradients import mean_gradients
from lora_da_bench.methods.method import Setup
from methods.setups import (
    KINDS,
    RANK,
    adapted_names,
    autograd_gradients,
    base_weights,
    initialised,
    layers_in,
    setup_of,
    top_part,
)
from models import batches_of, causal_examples, positionwise
from oracles import largest_angle


def _close(found: Tensor, wanted: Tensor, relative: float = 1e-4) -> None:
    difference = torch.linalg.matrix_norm(found - wanted)
    assert difference <= relative * torch.linalg.matrix_norm(wanted), float(difference)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_autograds(kind: str) -> None:
    setup = setup_of(kind)
    wanted = autograd_gradients(setup, adapted_names(setup))
    found = mean_gradients(with_adapter(setup), setup)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        _close(gradient.double(), wanted[name])


@pytest.mark.parametrize("kind", KINDS)
def test_lora_one(kind: str) -> None:
    setup = setup_of(kind)
    gradients = autograd_gradients(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("lora-one", setup)).items():
        largest = torch.linalg.matrix_norm(gradients[name], 2)
        _close(layer.B @ layer.A, -top_part(gradients[name], RANK) / (largest * 128), 1e-3)
        _close(layer.A @ layer.A.T, layer.B.T @ layer.B, 1e-3)  # the singular values are shared evenly


@pytest.mark.parametrize("kind", KINDS)
def test_lora_ga(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    before, gradients = base_weights(setup, names), autograd_gradients(setup, names)
    for name, layer in layers_in(initialised("lora-ga", setup)).items():
        U, S, _ = torch.linalg.svd(gradients[name], full_matrices=False)
        size = len(U) ** 0.5 / 16
        eye = size * torch.eye(RANK, dtype=torch.float64)
        _close(layer.A @ layer.A.T, eye)
        _close(layer.B.T @ layer.B, eye)
        # A spans the r leading right singular vectors, B the r left ones after them.
        energies = (layer.A @ gradients[name].T).norm(dim=1) / size**0.5
        torch.testing.assert_close(energies, S[:RANK], rtol=1e-2, atol=1e-3 * float(S[0]))
        energies = (layer.B.T @ gradients[name]).norm(dim=1) / size**0.5
        torch.testing.assert_close(energies, S[RANK : 2 * RANK], rtol=1e-2, atol=1e-3 * float(S[0]))
        assert (layer.B.T @ U[:, :RANK]).abs().max() < 1e-2 * size**0.5
        _close(layer.W + layer.s * layer.B @ layer.A, before[name], 1e-5)


def test_lora_ga_of_peft_is_another() -> None:
    ours, pefts = (layers_in(initialised(name, setup_of())) for name in ("lora-ga", "lora-ga-peft"))
    for name, layer in pefts.items():
        lengths = layer.B.norm(dim=0)
        assert lengths.max() > 1.1 * lengths.min()  # it carries singular values
        torch.testing.assert_close(ours[name].B.norm(dim=0), ours[name].B.norm(dim=0).mean().expand(RANK))


def test_lora_ga_of_peft_sees_the_whole_sample() -> None:
    setup = setup_of()
    model = copy.deepcopy(setup.model).double().requires_grad_(True)
    for batch in setup.batches:
        model(**batch).loss.backward()
    for name, layer in layers_in(initialised("lora-ga-peft", setup)).items():
        gradient = model.get_submodule(name).weight.grad
        leading = torch.linalg.svd(gradient).Vh[:RANK]
        assert largest_angle(layer.A, leading) < 1e-2  # PEFT gives A the first r directions, B the next


@pytest.mark.parametrize("name", ["lora-ga", "lora-ga-peft"])
def test_lora_ga_names_the_layer_that_is_too_small(name: str) -> None:
    with pytest.raises(ValueError, match=r"2r = 10 .*layers\.0\.self_attn\.k_proj.*8 × 16"):
        initialised(name, setup_of(r=5))


@pytest.mark.parametrize("kind", KINDS)
def test_milora(kind: str) -> None:
    setup = setup_of(kind)
    before = base_weights(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("milora", setup)).items():
        W = before[name]
        minor = W - top_part(W, min(W.shape) - RANK)
        _close(layer.s * layer.B @ layer.A, minor, 1e-4)
        _close(layer.W, W - minor, 1e-5)
        _close(layer.A @ layer.A.T, layer.B.T @ layer.B, 1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", ["milora", "lora-ga"])
def test_a_bfloat16_base_is_off_by_its_rounding_alone(name: str, kind: str) -> None:
    setup = setup_of(kind, dtype=torch.bfloat16)
    before = base_weights(setup, adapted_names(setup))
    for layer_name, layer in layers_in(initialised(name, setup)).items():
        off = layer.W + layer.s * layer.B @ layer.A - before[layer_name]
        assert off.any()
        assert bool((off.abs() <= 2**-8 * layer.W.abs() + 1e-6).all())


@pytest.mark.parametrize("name", ["lora-one", "lora-ga"])
def test_a_layer_without_a_gradient_is_named(name: str) -> None:
    lora = LoraConfig(r=2, target_modules=["once", "unused"])
    setup = Setup(positionwise(), lora, batches_of(causal_examples(4)), 4, 0)
    with pytest.raises(ValueError, match="layer unused is zero"):
        initialised(name, setup)


def test_a_quantised_base_is_refused() -> None:
    from lora_da.adapter.layers import AdaptedLayer
    from lora_da_bench.methods.adapters import base_weight

    base = torch.nn.Linear(2, 2)
    base.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    empty = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="quantised"):
        base_weight(AdaptedLayer(base, empty, empty, 1.0))
