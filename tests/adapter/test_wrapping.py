from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lora_da import collect_statistics
from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.wrapping import find_base_model
from models import batches_of, causal_examples, tiny_llama, with_lora


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: torch.compile(m, backend="eager")], ids=["plain", "compiled"])
def test_names_do_not_depend_on_wrappers(wrap: Any) -> None:
    wanted = list(find_adapted_layers(with_lora(tiny_llama()), "default")[0])
    assert list(find_adapted_layers(wrap(with_lora(tiny_llama())), "default")[0]) == wanted
    assert list(find_adapted_layers(with_lora(wrap(tiny_llama())), "default")[0]) == wanted
    base = tiny_llama()
    assert find_base_model(wrap(base)) is base
    assert find_base_model(with_lora(wrap(base))) is base
    base = tiny_llama()
    assert find_base_model(wrap(with_lora(base))) is base


class _Around(nn.Module):
    """A module of a user's, which gives all that it is given to the model inside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inside = model

    def forward(self, **inputs: Any) -> Any:
        return self.inside(**inputs)


class _AroundWithLoss(_Around):
    """With another module beside the model, so that its own layers are those of the model inside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.loss = nn.CrossEntropyLoss()


@pytest.mark.parametrize("around", [_Around, _AroundWithLoss])
@pytest.mark.parametrize("outside", [True, False])
def test_a_module_around_the_model_does_not_hide_its_adapter(around: Any, outside: bool) -> None:
    """Or its A and B would be taken for layers of the model."""
    plain, batches = with_lora(tiny_llama()), batches_of(causal_examples(4))
    wrapped = around(with_lora(tiny_llama())) if outside else with_lora(around(tiny_llama()))
    wanted, found = (collect_statistics(model, batches, progress=False) for model in (plain, wrapped))
    assert len(found.layers) == len(wanted.layers)
    for name, other in zip(wanted.layers, found.layers, strict=True):
        assert other.endswith(name)
        torch.testing.assert_close(found.gradient_sums[other], wanted.gradient_sums[name])
