"""EVA: A spans the principal components of the layer's inputs (arXiv 2410.07170), by PEFT."""

from __future__ import annotations

from contextlib import redirect_stdout
from itertools import count
from typing import Any

from peft import EvaConfig, initialize_lora_eva_weights
from torch import Tensor, nn

from lora_da_bench.methods.adapters import add_adapter, refuse_classifiers
from lora_da_bench.methods.method import Method, Setup

_MOST_PASSES = 50  # over the sample; PEFT itself goes on for ever if the components don't converge


def _initialise(setup: Setup) -> nn.Module:
    refuse_classifiers(setup, "EVA")
    # ρ = 1 keeps every layer's rank, so that methods are compared at equal rank.
    model = add_adapter(setup, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))
    calls = count()

    def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Any:
        if next(calls) >= _MOST_PASSES * len(setup.batches):
            raise ValueError(
                f"PEFT's EVA has not converged in {_MOST_PASSES} passes over the calibration sample: give it more "
                "examples, in larger batches, or a lower rank"
            )
        return model(**inputs)

    with redirect_stdout(None):  # PEFT prints a line for each layer and batch that it skips
        initialize_lora_eva_weights(model, setup.batches, forward_fn=forward, show_progress_bar=False)
    return model


METHODS = (
    Method(
        "eva",
        "EVA by PEFT: A is the top r principal components of the layer's inputs at labelled tokens, B = 0, with ρ = 1 "
        "so that all ranks stay equal (arXiv 2410.07170)",
        _initialise,
        uses_data=True,
    ),
)
