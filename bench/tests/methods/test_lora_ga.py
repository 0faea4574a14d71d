"""LoRA-GA by PEFT: what it is given, and where it is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from methods.setups import RANK, initialised, layers_in, setup_of
from oracles import largest_angle


def test_lora_ga_of_peft_sees_the_whole_sample() -> None:
    setup = setup_of()
    model = copy.deepcopy(setup.model).double().requires_grad_(True)
    for batch in setup.batches:
        model(**batch).loss.backward()
    for name, layer in layers_in(initialised("lora-ga-peft", setup)).items():
        gradient = model.get_submodule(name).weight.grad
        leading = torch.linalg.svd(gradient).Vh[:RANK]
        assert largest_angle(layer.A, leading) < 1e-2  # PEFT gives A the first r directions, B the next


def test_the_layer_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"2r = 10 .*layers\.0\.self_attn\.k_proj.*8 × 16"):
        initialised("lora-ga-peft", setup_of(r=5))
