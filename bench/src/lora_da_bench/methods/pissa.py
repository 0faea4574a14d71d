"""PiSSA: the adapter is the base weight's principal part (arXiv 2404.02948), by PEFT."""

from __future__ import annotations

from functools import partial

from lora_da_bench.methods.adapters import add_adapter
from lora_da_bench.methods.method import Method

METHODS = (
    Method(
        "pissa",
        "PiSSA by PEFT: s·B·A is the top r singular part of W, by exact SVD, and the base keeps the rest "
        "(arXiv 2404.02948)",
        partial(add_adapter, init_lora_weights="pissa"),
    ),
)
