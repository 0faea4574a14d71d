"""CorDA: the adapter is the part of the base weight that the inputs' covariance weighs most (arXiv 2406.05223)."""

from __future__ import annotations

import dataclasses

from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from torch import nn

from lora_da_bench.methods.adapters import add_adapter, move_batches, name_layers, refuse_classifiers
from lora_da_bench.methods.method import Method, Setup


def _initialise(setup: Setup) -> nn.Module:
    refuse_classifiers(setup, "CorDA")
    _, config = name_layers(setup, init_lora_weights="corda", corda_config=CordaConfig(corda_method="ipm"))

    def run_model() -> None:
        # PEFT's hook takes one example at a time, and would count padding as text.
        for batch in move_batches(setup):
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
                setup.model(input_ids=ids[mask][None])

    preprocess_corda(setup.model, config, run_model=run_model)
    return add_adapter(dataclasses.replace(setup, lora=config))


METHODS = (
    Method(
        "corda",
        "CorDA by PEFT, in its instruction-previewed mode: with C the inputs' covariance and W·C = U·S·Vᵀ, s·B·A is "
        "the top r part of U·S·Vᵀ·C⁻¹, and the base keeps the rest (arXiv 2406.05223)",
        _initialise,
        uses_data=True,
    ),
)
