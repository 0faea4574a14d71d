"""PiSSA against an SVD of the weights."""

from __future__ import annotations

import pytest
import torch

from methods.setups import KINDS, RANK, adapted_names, base_weights, initialised, layers_in, setup_of, top_part


@pytest.mark.parametrize("kind", KINDS)
def test_pissa_takes_the_principal_part(kind: str) -> None:
    setup = setup_of(kind)
    before = base_weights(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("pissa", setup)).items():
        # Entries are about 0.1, and float32's singular vectors differ by machine where values are close.
        torch.testing.assert_close(layer.s * layer.B @ layer.A, top_part(before[name], RANK), rtol=0, atol=1e-4)
        torch.testing.assert_close(layer.W + layer.s * layer.B @ layer.A, before[name], rtol=0, atol=1e-6)
