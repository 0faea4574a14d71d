"""The linear layers of a plain model, which carries no adapter yet."""

from __future__ import annotations

from typing import Any

from torch import nn


def find_linear_layers(model: Any) -> dict[str, nn.Module]:
    """Return all linear layers of a plain model but its output head, as ``target_modules="all-linear"`` has it.

    Returns:
        The layers by their names, in the model's order.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }


def shape_of_linear(layer: nn.Module) -> tuple[int, int]:
    """Return (d_out, d_in) of one of :func:`find_linear_layers`."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    weight = layer.weight  # Conv1D's, which lies the other way round
    assert isinstance(weight, nn.Parameter)
    d_in, d_out = weight.shape
    return d_out, d_in
