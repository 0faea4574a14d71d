"""EVA: A spans the principal components of the layer's inputs (arXiv 2410.07170), by PEFT."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from peft import EvaConfig, initialize_lora_eva_weights
from torch import Tensor, nn

from lora_da_bench.methods.adapters import add_adapter
from lora_da_bench.methods.method import Method, Setup

_MOST_PASSES = 50  # over the sample; PEFT itself goes on for ever if the components don't converge


def _initialise(setup: Setup) -> nn.Module:
    per_token = setup.batches[0]["labels"].ndim == 2
    # ρ = 1 keeps every layer's rank, so that methods are compared at equal rank. Labels of whole examples mask nothing.
    config = EvaConfig(rho=1.0, use_label_mask=per_token)
    model = add_adapter(setup, init_lora_weights="eva", eva_config=config)
    with redirect_stdout(None):  # PEFT prints a line for each layer and batch that it skips
        initialize_lora_eva_weights(
            model,
            setup.batches,
            forward_fn=_forward(_MOST_PASSES * len(setup.batches)),
            prepare_layer_inputs_fn=_rows(2 * setup.lora.r),
            show_progress_bar=False,
        )
    return model


def _forward(most: int) -> Callable[[nn.Module, dict[str, Tensor]], Any]:
    """Call the model, but not for ever."""
    left = most

    def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Any:
        nonlocal left
        if left == 0:
            raise ValueError(
                f"PEFT's EVA has not converged in {_MOST_PASSES} passes over the calibration sample: give it more "
                "examples, in more batches, or a lower rank"
            )
        left -= 1
        return model(**inputs)

    return forward


def _rows(least: int) -> Callable[[Any, Tensor, str], Tensor]:
    """The tokens that PEFT decomposes, some batches together where one has too few.

    PEFT needs twice the rank of them at once, and takes every input for (batch, length, d_in), which that of BERT's
    pooler (batch, d_in) is not.
    """
    waiting: dict[str, list[Tensor]] = {}

    def rows(layer_input: Any, positions: Tensor, name: str) -> Tensor:
        inputs = layer_input if isinstance(layer_input, Tensor) else layer_input[0]
        found = inputs[positions.mT.unbind()] if inputs.ndim == 3 else inputs.contiguous()
        if name not in waiting:  # PEFT's first call only finds out which layers have the same input
            waiting[name] = []
            return found
        waiting[name].append(found)
        if sum(map(len, waiting[name])) < least:
            return found[:0]
        together = torch.cat(waiting[name])
        waiting[name] = []
        return together

    return rows


METHODS = (
    Method(
        "eva",
        "EVA by PEFT: A is the top r principal components of the layer's inputs at labelled tokens, B = 0, with ρ = 1 "
        "so that all ranks stay equal (arXiv 2410.07170)",
        _initialise,
        uses_data=True,
    ),
)
