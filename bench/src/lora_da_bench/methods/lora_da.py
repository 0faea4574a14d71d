"""LoRA-DA (arXiv 2510.24561), and what remains of it without one of its parts."""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from peft import PeftModel

from lora_da import LoraDAConfig, Statistics, collect_statistics, initialize_lora_da_weights
from lora_da_bench.methods.adapters import add_adapter, find_factors, write_factors
from lora_da_bench.methods.method import Method, Setup


def initialise_lora_da(setup: Setup, config: LoraDAConfig | None = None) -> PeftModel:
    """Put an adapter on the setup's model and initialise it by LoRA-DA; population size and seed are the setup's."""
    model = add_adapter(setup)
    initialize_lora_da_weights(
        model,
        setup.batches,
        _of_setup(setup, config or LoraDAConfig()),
        max_examples=setup.examples,
        measure_loss=False,
        progress=False,
    )
    return model


def _of_setup(setup: Setup, config: LoraDAConfig) -> LoraDAConfig:
    return dataclasses.replace(config, population_size=setup.population_size, seed=setup.seed)


def _without_fisher(setup: Setup) -> PeftModel:
    """The gradient's own leading right singular vectors for A, at LoRA-DA's scale, and B = 0.

    With both Fisher factors the identity LoRA-DA's subspace is theirs. What A makes of the layer's inputs is then made
    white, as LoRA-DA's own scale has it, by the inputs' real second moment Z: with C = A Z Aᵀ, A ← √m·C^(−½)·A, where
    m = tr Z / 3·d_in.
    """
    model = add_adapter(setup)
    config = _of_setup(setup, LoraDAConfig(input_damping=0.0, output_damping=0.0, init_scale="zero"))
    statistics = collect_statistics(
        model, setup.batches, config.collection, max_examples=setup.examples, progress=False
    )
    initialize_lora_da_weights(
        model, config=config, statistics=_with_identities(statistics), measure_loss=False, progress=False
    )
    factors = {}
    for name, (own, B) in find_factors(model).items():
        A = own.detach().double()
        sums = statistics[name]
        Z = (sums.input_sum / sums.tokens).to(A)
        values, vectors = torch.linalg.eigh(A @ Z @ A.mT)
        roots = values.clamp_min(values[-1] * 1e-12).sqrt()  # directions that no input has
        size = (Z.diagonal().mean() / 3).sqrt()
        factors[name] = (size * vectors @ ((vectors.mT @ A) / roots[:, None]), B)
    write_factors(model, factors)
    return model


def _with_identities(statistics: Statistics) -> Statistics:
    """The same gradients, with both Fisher factors the identity."""
    return dataclasses.replace(
        statistics,
        input_sums={
            name: statistics.tokens[name] * torch.eye(len(Z), device=Z.device)
            for name, Z in statistics.input_sums.items()
        },
        output_sums={
            name: statistics.tokens[name] * torch.ones(len(Y), device=Y.device)
            for name, Y in statistics.output_sums.items()
        },
    )


METHODS = (
    Method("lora-da", "LoRA-DA with this library's defaults (arXiv 2510.24561)", initialise_lora_da, uses_data=True),
    Method(
        "lora-da-zero-b",
        "LoRA-DA's A with B = 0",
        partial(initialise_lora_da, config=LoraDAConfig(init_scale="zero")),
        uses_data=True,
    ),
    Method(
        "lora-da-paper",
        "LoRA-DA as the paper derives it, with the damping that it does not give",
        partial(initialise_lora_da, config=LoraDAConfig.paper()),
        uses_data=True,
    ),
    Method(
        "lora-da-released",
        "LoRA-DA as its authors' released settings have it, solved exactly",
        partial(initialise_lora_da, config=LoraDAConfig.released()),
        uses_data=True,
    ),
    Method(
        "lora-da-no-fisher",
        "LoRA-DA with both Fisher factors the identity, which leaves the gradient's right singular vectors, at "
        "LoRA-DA's scale, and B = 0",
        _without_fisher,
        uses_data=True,
    ),
)
