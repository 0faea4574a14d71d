"""LoRA-One against its paper's equation in float64, with autograd's own gradients."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from lora_da_bench.methods.method import Setup
from methods.setups import KINDS, RANK, adapted_names, autograd_gradients, initialised, layers_in, setup_of, top_part
from models import batches_of, causal_examples, positionwise


def _close(found: Tensor, wanted: Tensor) -> None:
    difference = torch.linalg.matrix_norm(found - wanted)
    assert difference <= 1e-3 * torch.linalg.matrix_norm(wanted), float(difference)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_leading_part(kind: str) -> None:
    setup = setup_of(kind)
    gradients = autograd_gradients(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("lora-one", setup)).items():
        largest = torch.linalg.matrix_norm(gradients[name], 2)
        _close(layer.B @ layer.A, -top_part(gradients[name], RANK) / (largest * 128))
        _close(layer.A @ layer.A.T, layer.B.T @ layer.B)  # the singular values are shared evenly


def test_a_layer_without_a_gradient_is_named() -> None:
    lora = LoraConfig(r=2, target_modules=["once", "unused"])
    setup = Setup(positionwise(), lora, batches_of(causal_examples(4)), 4, 0)
    with pytest.raises(ValueError, match="layer unused is zero"):
        initialised("lora-one", setup)
