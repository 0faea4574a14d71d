"""LoRA-DA's methods against the library's own call, and the one without Fisher factors against an SVD."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da_bench.methods.lora_da import initialise_lora_da
from methods.setups import (
    KINDS,
    RANK,
    adapted_names,
    autograd_gradients,
    initialised,
    inputs_of,
    layers_in,
    setup_of,
)
from models import with_lora

CONFIGS = {
    "lora-da": LoraDAConfig(),
    "lora-da-zero-b": LoraDAConfig(init_scale="zero"),
    "lora-da-paper": LoraDAConfig.paper(),
    "lora-da-released": LoraDAConfig.released(),
}


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_call_of_the_library(name: str, kind: str) -> None:
    setup = setup_of(kind, seed=3)
    task = str(setup.lora.task_type)
    direct = with_lora(
        setup_of(kind).model, r=RANK, lora_alpha=8, target_modules="all-linear", task_type=task, use_rslora=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(
            direct,
            setup.batches,
            dataclasses.replace(CONFIGS[name], population_size=1000, seed=3),
            max_examples=1000,
            progress=False,
        )
    wanted, found = layers_in(direct), layers_in(initialised(name, setup))
    assert wanted.keys() == found.keys()
    for layer, pair in found.items():
        assert torch.equal(pair.A, wanted[layer].A)
        assert torch.equal(pair.B, wanted[layer].B)


def test_the_presets_differ_from_each_other() -> None:
    found = {name: layers_in(initialised(name, setup_of())) for name in (*CONFIGS, "lora-da-no-fisher")}
    names = list(found)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            others = found[other]
            assert any(
                not torch.equal(x.A, others[name].A) or not torch.equal(x.B, others[name].B)
                for name, x in found[one].items()
            )


def test_the_seed_completes_what_the_data_leave_open() -> None:
    config = LoraDAConfig(variance_weight=0.0, sample_correction="none")
    few = [{key: value[:1, :3] for key, value in setup_of().batches[0].items()}]
    few[0]["labels"] = few[0]["input_ids"]  # three tokens, of which two are predicted: rank 2 at most
    found = []
    for seed in (0, 0, 1):
        setup = dataclasses.replace(setup_of(seed=seed), batches=few)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            found.append(layers_in(initialise_lora_da(setup, config)))
    for name, layer in found[0].items():
        assert torch.equal(layer.A, found[1][name].A)
    first, second = (each["model.layers.0.self_attn.q_proj"].A for each in found[1:])
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_without_fisher_it_is_the_gradients_svd_at_lora_das_scale(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    gradients = autograd_gradients(setup, names, summed=kind != "bert")
    inputs = {name: torch.cat(inputs_of(setup, name)) for name in names}
    for name, layer in layers_in(initialised("lora-da-no-fisher", setup)).items():
        G = gradients[name]
        rows = torch.linalg.svd(G).Vh[:RANK]
        torch.testing.assert_close(layer.A @ rows.T @ rows, layer.A, rtol=0, atol=1e-5 * float(layer.A.norm()))
        assert not layer.B.any()
        # What A makes of the inputs is white, with the mean square that LoRA's usual A gives.
        Z = inputs[name].T @ inputs[name] / len(inputs[name])
        size = Z.diagonal().mean() / 3
        white = size * torch.eye(RANK, dtype=torch.float64)
        torch.testing.assert_close(layer.A @ Z @ layer.A.T, white, rtol=0, atol=1e-3 * float(size))
