"""PiSSA against an SVD of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.setups import KINDS, RANK, adapted_names, base_weights, initialised, layers_in, setup_of, top_part


@pytest.mark.parametrize("kind", KINDS)
def test_pissa_takes_the_principal_part(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    for name, weight in base_weights(setup, names).items():
        double_leading(setup.model.get_submodule(name), weight)
    before = base_weights(setup, names)
    for name, layer in layers_in(initialised("pissa", setup)).items():
        torch.testing.assert_close(layer.s * layer.B @ layer.A, top_part(before[name], RANK), rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.W + layer.s * layer.B @ layer.A, before[name], rtol=0, atol=1e-6)


@torch.no_grad()
def double_leading(module: Any, weight: Tensor) -> None:
    """Double the leading singular values: of close ones float32's vectors differ from one machine to the next."""
    part = top_part(weight, RANK)
    module.weight += (part.mT if type(module).__name__ == "Conv1D" else part).to(module.weight)
