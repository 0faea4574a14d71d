"""What a loss says of itself, and what tells one from another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da.losses import CausalLM, Distillation
from lora_da.statistics.losses.example_losses import (
    couples_examples,
    describe_settings,
    find_logits,
    find_own_entries,
    find_rows_per_example,
    name_loss,
)


def own(output: Any, batch: Any) -> Tensor:
    return torch.zeros(1)


class Derived(CausalLM):
    """A loss of one's own, whose ``repr`` says nothing of its code."""


def test_logits_of_mappings_and_objects() -> None:
    logits = torch.ones(2, 3)
    assert find_logits({"loss": None, "logits": logits}) is logits
    assert find_logits(SimpleNamespace(logits=logits)) is logits
    with pytest.raises(ValueError, match=r"has no logits, but \['hidden'\]: give example_loss"):
        find_logits({"hidden": logits})
    with pytest.raises(ValueError, match="has no logits, but SimpleNamespace"):
        find_logits(SimpleNamespace(logits=(logits,)))


def test_the_settings_of_losses_of_the_library_tell_all() -> None:
    assert describe_settings(None) == "None"
    assert describe_settings(CausalLM()) == describe_settings(CausalLM("sum"))
    assert describe_settings(CausalLM("mean")) != describe_settings(CausalLM("sum"))
    for opaque in (own, Derived(), Distillation(nn.Linear(2, 2))):
        assert describe_settings(opaque) is None


def test_a_loss_of_ones_own_is_named() -> None:
    assert name_loss(own) == f"{__name__}.own"
    assert name_loss(Derived()) == f"{__name__}.Derived"
    assert name_loss(CausalLM("mean")) == repr(CausalLM("mean"))


def test_what_a_loss_says_of_its_rows() -> None:
    def paired(output: Any, batch: Any) -> Tensor:
        return torch.zeros(1)

    said: Any = paired
    said.rows_per_example, said.batch_dependent, said.own_entries = 2, True, ["margin"]
    assert [find_rows_per_example(loss) for loss in (None, own, paired)] == [1, None, 2]
    assert [couples_examples(loss) for loss in (None, own, paired)] == [False, False, True]
    assert [find_own_entries(loss) for loss in (None, own, paired)] == [set(), set(), {"margin"}]
