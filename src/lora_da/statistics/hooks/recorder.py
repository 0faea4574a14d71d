"""What a layer sees: its input ``a`` and its output gradient ``g``, brought together in the backward pass.

A forward hook taps the layer's output. So no weight gradient is made and every parameter can be frozen or quantised;
under gradient checkpointing, where a forward pass runs twice, ``a`` is recomputed like the rest and counted once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.token_rows import TokenRows, TokenRowsOf
from lora_da.statistics.hooks.experts import watch_products
from lora_da.statistics.layers import Layer, ParameterLayer
from lora_da.statistics.running_sums import RunningSums


class _SharedInput:
    """One input tensor of one forward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = weakref.ref(tensor)
        self.summed_by: dict[str, str] = {}  # of each group of layers, the one whose tokens the input's sum counts


class Recorder:
    """Adds what a set of layers sees to sums, while a model runs forward and backward.

    Attributes:
        layers: The layers, by name.
        sums: Where their products are added up.
    """

    def __init__(self, layers: Mapping[str, Layer], sums: RunningSums) -> None:
        """Prepare for some layers."""
        self.layers = layers
        self.sums = sums
        self._rows_of: TokenRowsOf | None = None
        self._inputs: dict[int, _SharedInput] = {}
        self._received: dict[str, set[_SharedInput]] = {}  # by layer, in the forward pass
        self._recomputed: dict[str, set[_SharedInput]] = {}  # and by checkpointing, in the backward pass

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the layers, and unhook them at the end whatever happens."""
        parts: dict[nn.Module, dict[tuple[str, int | None], str]] = {}
        with ExitStack() as hooks:
            for name, layer in self.layers.items():
                if isinstance(layer, ParameterLayer):
                    parts.setdefault(layer.module, {})[layer.parameter, layer.index] = name
                else:
                    handle = layer.register_forward_hook(self._forward_hook(name), with_kwargs=True)
                    hooks.callback(handle.remove)
            for module, names in parts.items():
                hooks.enter_context(watch_products(module, names, self._recorded_rows, self._tap))
            yield

    @contextmanager
    def batch(self, rows_of: TokenRowsOf) -> Iterator[None]:
        """Record one batch; ``rows_of`` tells which rows of a layer's input are tokens."""
        self._rows_of = rows_of
        self._inputs.clear()
        self._received.clear()
        self._recomputed.clear()
        try:
            yield
        finally:
            self._rows_of = None
            self._inputs.clear()
            self._received.clear()
            self._recomputed.clear()

    def _forward_hook(self, name: str) -> Callable[[nn.Module, Any, Any, Tensor], Tensor | None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
            layer_input: Tensor = args[0] if args else next(iter(kwargs.values()))
            if not isinstance(output, Tensor):  # some routers make more of their product, which they don't give out
                return None
            rows = self._recorded_rows(name, layer_input)
            return None if rows is None else self._tap(name, layer_input, output, rows)

        return hook

    def _recorded_rows(self, name: str, layer_input: Tensor) -> TokenRows | None:
        """The token rows of an input; None in others' calls, and in the first of a checkpointed block's two."""
        if self._rows_of is None or not torch.is_grad_enabled():
            return None
        return self._rows_of(name, layer_input)

    def _tap(self, name: str, layer_input: Tensor, output: Tensor, rows: TokenRows) -> Tensor:
        shared = self._share(name, layer_input)

        def receive(layer_input: Tensor, gradient: Tensor) -> None:
            with _exact_products(layer_input.device):
                self._add(name, shared, rows, layer_input.flatten(0, -2), gradient.flatten(0, -2))

        return _tap_output(output, layer_input, receive)

    def _share(self, name: str, layer_input: Tensor) -> _SharedInput:
        """The record of this very tensor, which the layer has received."""
        shared = self._inputs.get(id(layer_input))
        if shared is None or shared.tensor() is not layer_input:
            shared = self._inputs[id(layer_input)] = _SharedInput(layer_input)
        forward = torch._C._current_graph_task_id() == -1  # as torch's own checkpointing asks
        (self._received if forward else self._recomputed).setdefault(name, set()).add(shared)
        return shared

    def group_inputs(self) -> dict[str, str]:
        """Return the group of each layer that has been called in this batch, see :attr:`RunningSums.input_groups`."""
        return {name: self._group_of(name) for name in self._received | self._recomputed}

    def _group_of(self, name: str) -> str:
        """The group of layers that receive the same tensor as this one, told when the first of their sums is due.

        A layer that receives several has its own, since gradients may reach only some of its outputs.
        """
        groups = self.sums.input_groups
        if name not in groups:
            received = self._received | self._recomputed | self._received  # in the order of the forward pass, if seen
            alike = [other for other in received if other not in groups and received[other] == received[name]]
            groups |= {name: name} if len(received[name]) > 1 else dict.fromkeys(alike, alike[0])
        return groups[name]

    def _add(self, name: str, shared: _SharedInput, rows: TokenRows, a: Tensor, g: Tensor) -> None:
        reached = rows.with_gradient(g)
        token_a, token_g = rows.of(a), rows.of(g)
        if reached is rows:
            self.sums.add_gradient(name, token_a, token_g)
        else:
            self.sums.add_gradient(name, reached.of(a), reached.of(g))
        self.sums.add_output(name, token_g)
        group = self._group_of(name)
        if shared.summed_by.setdefault(group, name) == name:
            self.sums.add_input(group, token_a)


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Keep the caller's autocast and reduced matrix-product precision away from the sums."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _tap_output(output: Tensor, layer_input: Tensor, receive: Callable[[Tensor, Tensor], None]) -> Tensor:
    """The identity on a layer's output; ``receive`` is given the layer's input and the output's gradient.

    The input is kept the way autograd keeps any tensor for the backward pass.
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
