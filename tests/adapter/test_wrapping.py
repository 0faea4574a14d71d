from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.wrapping import find_base_model
from models import tiny_llama, with_lora


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
