"""CorDA against its paper's equation, with PEFT's scaling of the inputs."""

from __future__ import annotations

import pytest
import torch

from methods.setups import (
    RANK,
    adapted_names,
    base_weights,
    initialised,
    inputs_of,
    layers_in,
    setup_of,
    top_part,
)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_corda_takes_the_part_that_the_covariance_weighs_most(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    before = base_weights(setup, names)
    inputs = {name: inputs_of(setup, name) for name in names}
    for name, layer in layers_in(initialised("corda", setup)).items():
        scaled = [rows / rows.max().abs() for rows in inputs[name]]  # as PEFT has it
        C = torch.stack([rows.T @ rows for rows in scaled]).mean(0)
        C += 0.01 * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype)
        wanted = top_part(before[name] @ C, RANK) @ torch.linalg.inv(C)
        difference = torch.linalg.matrix_norm(layer.s * layer.B @ layer.A - wanted)
        assert difference < 1e-2 * torch.linalg.matrix_norm(wanted), name
