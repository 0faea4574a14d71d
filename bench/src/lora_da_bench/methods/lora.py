"""LoRA as PEFT has it, which leaves the function as it is and looks at neither weights nor data."""

from __future__ import annotations

from lora_da_bench.methods.adapters import add_adapter
from lora_da_bench.methods.method import Method

METHODS = (Method("lora", "LoRA as PEFT has it: A Kaiming-uniform, B = 0 (arXiv 2106.09685)", add_adapter),)
