from __future__ import annotations

from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.linear_layers import find_linear_layers
from models import positionwise, tiny_bert, tiny_gpt2, tiny_llama, tiny_t5, with_lora


def test_linear_layers_are_those_of_all_linear() -> None:
    for make in (tiny_llama, tiny_gpt2, tiny_t5):
        found = list(find_linear_layers(make()))
        wanted = find_adapted_layers(with_lora(make(), target_modules="all-linear", task_type=None), "default")[0]
        assert found == list(wanted)
    assert list(find_linear_layers(positionwise())) == ["once", "twice", "unused", "head"]
    assert "classifier" in find_linear_layers(tiny_bert())
