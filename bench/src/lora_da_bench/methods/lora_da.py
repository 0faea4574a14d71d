"""LoRA-DA (arXiv 2510.24561) and what remains of it without one of its parts."""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from peft import PeftModel

from lora_da.adapter.factors import write_factors
from lora_da.api import collect_statistics, initialize_lora_da_weights
from lora_da.config import LoraDAConfig
from lora_da.pipeline.solution import solve_layers
from lora_da.solver.scale import scale_factors
from lora_da.statistics.batches.examples import batch_size
from lora_da.statistics.sums import Statistics
from lora_da_bench.methods.adapters import layers_of, with_adapter
from lora_da_bench.methods.method import Method, Setup


def with_lora_da(setup: Setup, config: LoraDAConfig | None = None) -> PeftModel:
    """The setup's model with an adapter that LoRA-DA has initialised.

    Args:
        setup: The setup.
        config: LoRA-DA's settings; population size and seed are the setup's.
    """
    model = with_adapter(setup)
    initialize_lora_da_weights(
        model,
        setup.batches,
        _of_setup(setup, config or LoraDAConfig()),
        max_examples=sum(map(batch_size, setup.batches)),
        measure_loss=False,
        progress=False,
    )
    return model


def _of_setup(setup: Setup, config: LoraDAConfig) -> LoraDAConfig:
    return dataclasses.replace(config, population_size=setup.population_size, seed=setup.seed)


def _without_fisher(setup: Setup) -> PeftModel:
    """Solve with Z = Y = I, but scale with the true Z, so that only the subspace and the product are another."""
    model = with_adapter(setup)
    layers = layers_of(model)
    config = _of_setup(setup, LoraDAConfig())
    examples = sum(map(batch_size, setup.batches))
    statistics = collect_statistics(model, setup.batches, config.collection, max_examples=examples, progress=False)
    ranks = {name: layer.rank for name, layer in layers.items()}
    factors = {}
    for name, init in solve_layers(_with_identities(statistics), ranks, config, progress=False)[0].items():
        Z = (statistics[name].input_sum / statistics[name].tokens).to(init.A)
        measured = dataclasses.replace(
            init, activation_covariance=init.A @ Z @ init.A.mT, input_mean_square=float(Z.diagonal().mean())
        )
        factors[name] = scale_factors(
            measured,
            scaling=layers[name].scaling,
            init_scale=config.init_scale,
            stable_gamma=config.stable_gamma,
        )
    write_factors(layers, factors)
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
    Method("lora-da", "LoRA-DA with this library's defaults (arXiv 2510.24561)", with_lora_da, uses_data=True),
    Method(
        "lora-da-paper",
        "LoRA-DA as the paper derives it, with the damping that it does not give",
        partial(with_lora_da, config=LoraDAConfig.paper()),
        uses_data=True,
    ),
    Method(
        "lora-da-released",
        "LoRA-DA as its authors' released settings have it, solved exactly",
        partial(with_lora_da, config=LoraDAConfig.released()),
        uses_data=True,
    ),
    Method(
        "lora-da-no-variance",
        "LoRA-DA without its variance term (β = 0) and the correction for the sample's noise: its bias term alone",
        partial(with_lora_da, config=LoraDAConfig(variance_weight=0.0, sample_correction="none")),
        uses_data=True,
    ),
    Method(
        "lora-da-no-correction",
        "LoRA-DA with its variance term, but without the correction for the sample's noise",
        partial(with_lora_da, config=LoraDAConfig(sample_correction="none")),
        uses_data=True,
    ),
    Method(
        "lora-da-no-fisher",
        "LoRA-DA with both Fisher factors the identity, which leaves the gradient's singular vectors, at LoRA-DA's "
        "scale",
        _without_fisher,
        uses_data=True,
    ),
)
