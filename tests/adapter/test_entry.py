"""A module around a model takes what it declares; what the library adds reaches the model inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da import collect_statistics
from lora_da.adapter.entry import Entry, open_entry
from models import batches_of, causal_examples, tiny_gpt2, tiny_llama, with_lora


class Around(nn.Module):
    """A module that takes the usual inputs by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inside = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        return self.inside(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("adapted", ["no", "inside", "outside"])
def test_left_padding_through_a_module_around_the_model(make: Callable[[], Any], adapted: str) -> None:
    examples, model = causal_examples(5), make().eval()
    targets = {"target_modules": ["c_attn"] if make is tiny_gpt2 else ["q_proj"], "task_type": None}
    around: nn.Module = Around(with_lora(model, **targets) if adapted == "inside" else model)
    around = with_lora(around, **targets) if adapted == "outside" else around
    found = collect_statistics(around, batches_of(examples, 5, "left"), progress=False)
    wanted = collect_statistics(around, batches_of(examples, 1), progress=False)
    assert found.tokens == wanted.tokens
    for name, value in wanted.gradient_sums.items():
        torch.testing.assert_close(found.gradient_sums[name], value, rtol=1e-4, atol=1e-5)
    assert found.wholly_counted == ()


def test_only_what_the_module_does_not_take_goes_inside() -> None:
    received: list[dict[str, Any]] = []
    model = tiny_llama()
    model.register_forward_hook(lambda _module, _, options, _output: received.append(options), with_kwargs=True)
    ids = torch.tensor([[3, 4, 5]])
    entry = open_entry(Around(model), model)
    entry(input_ids=ids, use_cache=False)
    assert received[0]["use_cache"] is False
    Around(model)(ids)
    assert "use_cache" not in received[1]
    assert open_entry(model, model) is model
    assert not isinstance(open_entry(with_lora(model), model), Entry)
