"""LoRA-GA: A and B from the singular vectors of the gradient, taken off the base (arXiv 2407.05000), by PEFT."""

from __future__ import annotations

import dataclasses

from peft import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from torch import nn

from lora_da_bench.methods.adapters import add_adapter, move_batches, name_layers
from lora_da_bench.methods.method import Method, Setup


def _initialise(setup: Setup) -> nn.Module:
    factors, config = name_layers(setup, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    for name, (A, B) in factors.items():
        (rank, d_in), d_out = A.shape, len(B)
        if 2 * rank > min(d_out, d_in):
            raise ValueError(
                f"LoRA-GA needs 2r = {2 * rank} singular vectors of layer {name}, whose gradient ({d_out} × {d_in}) "
                f"has {min(d_out, d_in)}: lower the rank, or leave the layer out"
            )

    def train_step() -> None:
        for batch in move_batches(setup):
            setup.model(**batch).loss.backward()

    preprocess_loraga(setup.model, config, train_step)
    return add_adapter(dataclasses.replace(setup, lora=config))


METHODS = (
    Method(
        "lora-ga-peft",
        "LoRA-GA by PEFT, with its defaults; not the reference: its B carries singular values (arXiv 2407.05000)",
        _initialise,
        uses_data=True,
    ),
)
