"""What a layer is: a module, or one of the linear maps that a module keeps in a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn


@dataclass(frozen=True)
class ParameterLayer:
    """A linear map whose weight is a parameter of a module, or one of those stacked in it.

    Attributes:
        module: The module that multiplies with it.
        parameter: The parameter's name there.
        index: The expert; None if the parameter is one matrix.
    """

    module: nn.Module
    parameter: str
    index: int | None = None


Layer = nn.Module | ParameterLayer


def find_device(layer: Layer) -> torch.device:
    """Return where a layer's parameters are, or its buffers (some quantised layers have no parameter)."""
    if isinstance(layer, ParameterLayer):
        layer = layer.module
    return next(chain(layer.parameters(), layer.buffers())).device
