"""Sums that grow, against all rows at once; what a recorder gives them is in ``hooks/test_recorder``."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lora_da import CollectionConfig, Statistics
from lora_da.statistics.running_sums import RunningSums
from lora_da.statistics.sums import ModelIdentity
from oracles import randn

A, G = randn(0, 12, 3), randn(1, 12, 2)
PARTS = (slice(0, 5), slice(5, 12))


def added(sums: RunningSums, *parts: slice) -> RunningSums:
    sums.input_groups["layer"] = "layer"
    for part in parts:
        sums.add_gradient("layer", A[part], G[part])
        sums.add_output("layer", G[part])
        sums.add_input("layer", A[part])
    return sums


@pytest.mark.parametrize("full", [False, True])
def test_gradients_are_divided_by_the_scale_of_the_loss(full: bool) -> None:
    sums = added(RunningSums(full_output=full, loss_scale=4.0), *PARTS)
    sums.finish()
    torch.testing.assert_close(sums.gradient_sums["layer"], G.T @ A / 4)
    output = G.T @ G / 16
    torch.testing.assert_close(sums.output_sums["layer"], output if full else output.diagonal())
    torch.testing.assert_close(sums.input_sums["layer"], A.T @ A)
    assert sums.tokens == sums.input_tokens == {"layer": 12}


def test_a_half_stays_as_it_was() -> None:
    sums = added(RunningSums(), PARTS[0])
    sums.keep_half(["layer", "not reached"], 3)
    added(sums, PARTS[1])
    assert (list(sums.half.gradient_sums), sums.half.examples) == (["layer"], 3)
    torch.testing.assert_close(sums.half.gradient_sums["layer"], G[:5].T @ A[:5])


def test_an_earlier_collection_is_gone_on_from() -> None:
    first = added(RunningSums(), PARTS[0])
    first.keep_half(["layer"], 3)
    earlier = Statistics(
        gradient_sums=first.gradient_sums,
        output_sums=first.output_sums,
        input_sums=first.input_sums,
        input_groups=first.input_groups,
        tokens=first.tokens,
        examples=3,
        loss_sum=1.0,
        config=CollectionConfig(),
        model=ModelIdentity(signature=torch.ones(3)),
    )
    resumed = RunningSums()
    resumed.resume(dataclasses.replace(earlier, half=first.half), {"layer": torch.device("cpu")})
    added(resumed, PARTS[1]).finish()
    wanted = added(RunningSums(), *PARTS)
    for name in ("gradient_sums", "output_sums", "input_sums"):
        torch.testing.assert_close(getattr(resumed, name), getattr(wanted, name))
    assert resumed.tokens == resumed.input_tokens == {"layer": 12}
    assert resumed.half.examples == 3


def test_sums_that_can_not_be_right_are_refused() -> None:
    sums = added(RunningSums(), *PARTS)
    sums.add_output("layer", G)
    with pytest.raises(ValueError, match="layers layer and layer share their input in some batches"):
        sums.finish()
    sums = added(RunningSums(), *PARTS)
    sums.add_input("other", torch.full((1, 3), 1e200, dtype=torch.float64))
    with pytest.raises(ValueError, match="the sums of 1 layers are not finite, first the input of other"):
        sums.finish()
