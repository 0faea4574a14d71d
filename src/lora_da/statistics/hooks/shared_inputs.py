"""Which layers receive the same tensor, found out by running the model once on one example."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import model_inputs
from lora_da.statistics.estimation_mode import quiet, random_state_kept
from lora_da.statistics.hooks.experts import Layer, ParameterLayer


def shared_inputs(
    model: nn.Module,
    layers: Mapping[str, Layer],
    batch: Mapping[str, Any],
    device: torch.device,
    entry: nn.Module | None = None,
) -> dict[str, str]:
    """Run the model, and see which layers were given one and the same tensor.

    Args:
        model: As in :func:`lora_da.statistics.one_pass.collect`.
        layers: Its layers, by name.
        batch: A batch of examples.
        device: Where the inputs go.
        entry: As in ``collect``.

    Returns:
        For each layer, the first one that was given its input; itself where it was not reached.
    """
    groups = {name: name for name in layers}
    first: dict[int, tuple[Tensor, str]] = {}  # the tensors are held, so that none takes another's identity

    def remember(name: str, layer_input: Tensor) -> None:
        groups[name] = first.setdefault(id(layer_input), (layer_input, name))[1]

    with random_state_kept(), quiet(model), torch.no_grad(), ExitStack() as hooks:
        for name, layer in layers.items():
            if isinstance(layer, ParameterLayer):
                continue  # every expert has tokens of its own
            handle = layer.register_forward_pre_hook(
                lambda _layer, args, kwargs, name=name: remember(
                    name, args[0] if args else next(iter(kwargs.values()))
                ),
                with_kwargs=True,
            )
            hooks.callback(handle.remove)
        (entry or model)(**model_inputs(model, batch, device))
    return groups
