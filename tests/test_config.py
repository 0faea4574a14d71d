from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from lora_da import CollectionConfig, LoraDAConfig


def test_paper_needs_the_full_output_factor_and_the_population() -> None:
    config = LoraDAConfig.paper()
    assert config.collection == CollectionConfig(output_factor="full")
    assert config.output_factor == "diagonal_of_inverse"
    assert (config.bias_weight, config.variance_weight) == (1.0, 1.0)
    assert (config.sample_correction, config.init_scale, config.fisher_unit) == ("none", "theory", "example")
    assert config.needs_population_size


def test_released_is_the_authors_configuration() -> None:
    config = LoraDAConfig.released()
    assert config.collection.loss_reduction == "mean"
    assert (config.input_damping, config.output_damping, config.damping_mode) == (1e-6, 1e-6, "absolute")
    assert (config.variance_weight, config.stable_gamma) == (0.03, 1024.0)
    assert (config.init_scale, config.fisher_unit, config.output_factor) == ("stable", "token", "inverse_of_diagonal")
    assert config.needs_population_size


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"sample_correction": "none"}, False),
        ({"metric": "parameters"}, False),
        ({"metric": "parameters", "sample_correction": "none"}, True),
        ({"metric": "parameters", "sample_correction": "none", "variance_weight": 0.0}, False),
    ],
)
def test_when_the_population_size_decides(changes: dict[str, Any], needed: bool) -> None:
    assert LoraDAConfig(**changes).needs_population_size is needed


@pytest.mark.parametrize("name", ["input_damping", "output_damping", "bias_weight", "variance_weight"])
@pytest.mark.parametrize("value", [-1e-9, math.inf, math.nan])
def test_weights_and_dampings_are_numbers_from_zero_up(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"LoraDAConfig\.{name} must be a number of at least 0"):
        LoraDAConfig(**dict[str, Any]({name: value}))
    LoraDAConfig(**dict[str, Any]({name: 0.0}))


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.inf, math.nan])
def test_gamma_is_above_zero(gamma: float) -> None:
    with pytest.raises(ValueError, match="stable_gamma must be a number above 0"):
        LoraDAConfig(stable_gamma=gamma)


@pytest.mark.parametrize("size", [0, -5])
def test_population_size_is_positive(size: int) -> None:
    with pytest.raises(ValueError, match="population_size must be a number of at least 1"):
        LoraDAConfig(population_size=size)


@pytest.mark.parametrize(
    "name", ["fisher_unit", "output_factor", "damping_mode", "sample_correction", "init_scale", "metric"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"LoraDAConfig\.{name} must be '.*' or '.*', not 'both'"):
        LoraDAConfig(**dict[str, Any]({name: "both"}))


def test_the_diagonal_of_the_inverse_needs_the_full_factor() -> None:
    with pytest.raises(ValueError, match='needs CollectionConfig\\(output_factor="full"\\)'):
        LoraDAConfig(output_factor="diagonal_of_inverse")
    with pytest.raises(ValueError, match="needs CollectionConfig"):
        dataclasses.replace(LoraDAConfig.paper(), collection=CollectionConfig())


def test_without_the_bias_term_nothing_but_the_population_is_left() -> None:
    config = LoraDAConfig(metric="parameters", bias_weight=0)
    assert config.needs_population_size
    assert not dataclasses.replace(config, variance_weight=0).needs_population_size
