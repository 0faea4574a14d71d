"""PEFT's random starting points, which leave the function as it is and look at neither weights nor data."""

from __future__ import annotations

from functools import partial

from lora_da_bench.methods.adapters import with_adapter
from lora_da_bench.methods.method import Method

METHODS = (
    Method("lora", "LoRA as PEFT has it: A Kaiming-uniform, B = 0 (arXiv 2106.09685)", with_adapter),
    Method(
        "gaussian",
        'PEFT\'s "gaussian": A normal with deviation 1/r, B = 0',
        partial(with_adapter, init_lora_weights="gaussian"),
    ),
    Method(
        "orthogonal",
        'PEFT\'s "orthogonal": random A and B, neither of them zero, with B·A = 0; even ranks only',
        partial(with_adapter, init_lora_weights="orthogonal"),
    ),
)
