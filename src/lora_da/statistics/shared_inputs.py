"""Which layers receive the same tensor, found out by running the model once on one example."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from lora_da.statistics.batches.indices import check_indices
from lora_da.statistics.estimation_mode import estimation_mode
from lora_da.statistics.layers import Layer, ParameterLayer
from lora_da.statistics.losses.objective import Objective
from lora_da.system.random_state import preserve_random_state


def find_shared_inputs(objective: Objective, layers: Mapping[str, Layer], batch: Mapping[str, Any]) -> dict[str, str]:
    """Run the model, and see which layers were given one and the same tensor.

    Returns:
        For each layer, the first one that was given its input; itself where it was not reached.

    Raises:
        ValueError: An index is outside of the model's embeddings.
    """
    groups = {name: name for name in layers}
    first: dict[int, tuple[Tensor, str]] = {}  # the tensors are held, so that none takes another's identity

    def remember(name: str, layer_input: Tensor) -> None:
        groups[name] = first.setdefault(id(layer_input), (layer_input, name))[1]

    with preserve_random_state(), estimation_mode(objective.model), torch.no_grad(), ExitStack() as hooks:
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
        with check_indices(objective.model):
            objective.called(**objective.prepare(batch))
    return groups
