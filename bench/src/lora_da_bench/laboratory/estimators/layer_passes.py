"""What reaches each layer, example by example: its inputs a and the loss's gradients g, by a pass of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from lora_da_bench.laboratory.data.examples import Examples

Seen = tuple[Tensor, Tensor]
"""a (B, L, d_in) and g (B, L, d_out) of B examples, float64; zero at padding, which so adds nothing to any sum."""


def see_layers(model: Any, layers: Sequence[str], examples: Examples, batch_size: int = 8) -> Iterator[dict[str, Seen]]:
    """Walk through some examples, a batch at a time.

    Args:
        model: A plain model of transformers.
        layers: Names of linear layers, each of which is called once.
        examples: What it is called with; the loss is that of an example, summed over its labels.
        batch_size: Examples at a time.

    Raises:
        ValueError: A layer is called twice, or not at all.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def keep(_: Any, received: tuple[Tensor, ...], output: Tensor) -> None:
            if name in outputs:
                raise ValueError(f"{name} is called twice: its inputs and gradients can't be told apart")
            inputs[name], outputs[name] = received[0].detach(), output

        return keep

    with ExitStack() as stack:
        stack.callback(
            # so that all outputs have a gradient, whether weights want one or not
            model.get_input_embeddings().register_forward_hook(lambda _, __, output: output.requires_grad_(True)).remove
        )
        for name in layers:
            stack.callback(model.get_submodule(name).register_forward_hook(keeper(name)).remove)
        for batch in examples.split(batch_size):
            inputs.clear()
            outputs.clear()
            loss = batch.losses(model).sum() * batch.labels_each
            if missing := [name for name in layers if name not in outputs]:
                raise ValueError(f"{', '.join(missing)} is not called")
            gradients = torch.autograd.grad(loss, [outputs[name] for name in layers])
            mask = batch.attention_mask
            yield {name: (_rows(inputs[name], mask), _rows(g, mask)) for name, g in zip(layers, gradients, strict=True)}


def _rows(values: Tensor, mask: Tensor) -> Tensor:
    """(B, L, d); of a layer that sees one row of each example, such as a pooler, L is 1."""
    if values.ndim == 2:
        return values.double()[:, None]
    return values.double().masked_fill(mask[:, : values.shape[1], None] == 0, 0.0)
