"""The identity on a layer's output, through which its input and its gradient meet in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def tap_output(
    output: Float[Tensor, "*positions d_out"],
    layer_input: Float[Tensor, "*positions d_in"],
    receive: Callable[[Tensor, Tensor], None],
) -> Float[Tensor, "*positions d_out"]:
    """Return a layer's output, whose gradient is handed over with the layer's input.

    Args:
        output: The layer's output.
        layer_input: Its input, which is kept the way autograd keeps any tensor for the backward pass.
        receive: A function of the input and the gradient of the output.
    """
    if not output.requires_grad:
        # The first layer of a frozen model: the backward pass need not go any deeper than here.
        output = output.detach().requires_grad_(True)
    tapped: Tensor = _Tap.apply(output, layer_input.detach(), receive)  # type: ignore[no-untyped-call]
    return tapped


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, layer_input: Tensor, receive: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(layer_input)
        ctx.receive = receive
        return output.clone()  # not a view, since models may change a layer's output in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (layer_input,) = ctx.saved_tensors
        ctx.receive(layer_input, gradient)
        return gradient, None, None
