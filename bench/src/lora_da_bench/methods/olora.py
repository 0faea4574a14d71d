"""OLoRA: the adapter is the beginning of the base weight's QR decomposition (arXiv 2406.01775), by PEFT."""

from __future__ import annotations

from torch import nn

from lora_da_bench.methods.adapters import with_adapter
from lora_da_bench.methods.method import Method, Setup


def _initialise(setup: Setup) -> nn.Module:
    if any(type(module).__name__ == "Conv1D" for module in setup.model.modules()):
        # It would not fail where the weight is square, but compute another function.
        raise ValueError("PEFT's OLoRA does not know that GPT-2's Conv1D layers store their weights transposed")
    return with_adapter(setup, init_lora_weights="olora")


METHODS = (
    Method(
        "olora",
        "OLoRA by PEFT: with W = QR, B = Q[:, :r] and A = R[:r], and the base keeps W − s·B·A (arXiv 2406.01775)",
        _initialise,
    ),
)
