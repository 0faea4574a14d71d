"""Writing A and B into the parameters that PEFT made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.adapter.layers import AdaptedLayer
from lora_da.adapter.sharding import whole_shape, write_parameter

if TYPE_CHECKING:
    from jaxtyping import Float


def write_factors(
    layers: Mapping[str, AdaptedLayer],
    factors: Mapping[str, tuple[Float[Tensor, "r d_in"], Float[Tensor, "d_out r"]]],
) -> None:
    """Copy lora_A and lora_B into place.

    The parameters stay the same objects, since optimisers, tied weights and shards hold on to them. Everything is
    checked before the first write, so that an error leaves the adapter as it was.

    Raises:
        ValueError: A factor has another shape than its parameter, or is not finite in the parameter's precision.
    """
    for name, pair in factors.items():
        for factor, parameter in zip(pair, (layers[name].A, layers[name].B), strict=True):
            shape = whole_shape(parameter)
            if factor.shape != shape:
                raise ValueError(f"layer {name}: {tuple(factor.shape)} can't be written to {tuple(shape)}")
            if not bool(torch.isfinite(factor.to(parameter.dtype)).all()):
                raise ValueError(f"layer {name}: its starting point exceeds the range of {parameter.dtype}")
    for name, pair in factors.items():
        for factor, parameter in zip(pair, (layers[name].A, layers[name].B), strict=True):
            write_parameter(parameter, factor)
