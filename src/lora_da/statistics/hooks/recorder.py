"""What a layer sees: its input ``a`` and its output gradient ``g``, brought together in the backward pass.

A forward hook routes the layer's output through :class:`_Tap`, the identity, which keeps ``a`` the way autograd keeps
any tensor for the backward pass. So no weight gradient is made and every parameter can be frozen or quantised; under
gradient checkpointing, where a forward pass runs twice, ``a`` is recomputed like the rest and counted once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.config import CollectionConfig
from lora_da.statistics.accumulator import Accumulator, Place
from lora_da.statistics.batches.token_rows import Rows
from lora_da.statistics.hooks.experts import Layer, ParameterLayer, watched
from lora_da.statistics.products import gram, product
from lora_da.statistics.sums import Statistics

RowsOf = Callable[[str, Tensor], Rows]


class _SharedInput:
    """One input tensor of one forward pass, and the group of layers that receive it."""

    def __init__(self, tensor: Tensor, group: str) -> None:
        self.tensor = weakref.ref(tensor)
        self.group = group
        self.summed_by: str | None = None  # the one layer of the group whose tokens the input's sum counts


class _Tap(torch.autograd.Function):
    """The identity on a layer's output; its backward hands (a, g) to a callback."""

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


class Recorder:
    """Accumulates the sums of a set of layers while a model runs forward and backward.

    Attributes:
        layers: The layers, by name.
        gradient_sums: Σ g aᵀ by layer, (d_out, d_in).
        output_sums: Σ g gᵀ by layer, (d_out, d_out) or its diagonal (d_out,).
        input_sums: Σ a aᵀ by group of layers that receive the same tensor, (d_in, d_in).
        input_groups: The group of each layer.
        tokens: Counted tokens by layer; ``input_tokens`` the same by group.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        config: CollectionConfig,
        loss_scale: float = 1.0,
        accumulator: Accumulator | None = None,
    ) -> None:
        """Prepare for the given layers, by name; every gradient is divided by ``loss_scale``."""
        self.layers = layers
        self._config = config
        self._loss_scale = loss_scale
        self._accumulator = accumulator or Accumulator()
        self._rows_of: RowsOf | None = None
        self._inputs: dict[int, _SharedInput] = {}
        self.gradient_sums: dict[str, Tensor] = {}
        self.output_sums: dict[str, Tensor] = {}
        self.input_sums: dict[str, Tensor] = {}
        self.input_groups: dict[str, str] = {}
        self.tokens: dict[str, int] = {}
        self.input_tokens: dict[str, int] = {}

    def go_on_from(self, earlier: Statistics, devices: Mapping[str, torch.device], place: Place) -> None:
        """Add to the sums of an earlier collection of these layers.

        Args:
            earlier: Its sums, which are taken over.
            devices: Where each layer is.
            place: Whether the sums are kept there or in the host's memory.
        """
        for own, sums in (
            (self.gradient_sums, earlier.gradient_sums),
            (self.output_sums, earlier.output_sums),
            (self.input_sums, earlier.input_sums),
        ):
            own |= {name: tensor.to(devices[name] if place == "device" else "cpu") for name, tensor in sums.items()}
        self.input_groups |= earlier.input_groups
        self.tokens |= earlier.tokens
        self.input_tokens |= {group: earlier.tokens[group] for group in earlier.input_sums}

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
                hooks.enter_context(watched(module, names, self._recording, self._tapped))
            yield

    @contextmanager
    def batch(self, rows_of: RowsOf) -> Iterator[None]:
        """Record one batch; ``rows_of(layer, input)`` says which rows of an input count."""
        self._rows_of = rows_of
        self._inputs.clear()
        try:
            yield
        finally:
            self._rows_of = None
            self._inputs.clear()

    def _forward_hook(self, name: str) -> Callable[[nn.Module, Any, Any, Tensor], Tensor | None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            layer_input: Tensor = args[0] if args else next(iter(kwargs.values()))
            rows = self._recording(name, layer_input)
            return None if rows is None else self._tapped(name, layer_input, output, rows)

        return hook

    def _recording(self, name: str, layer_input: Tensor) -> Rows | None:
        """The rows of an input that count; None in others' calls, and in the first of a checkpointed segment's two."""
        if self._rows_of is None or not torch.is_grad_enabled():
            return None
        return self._rows_of(name, layer_input)

    def _tapped(self, name: str, layer_input: Tensor, output: Tensor, rows: Rows) -> Tensor:
        shared = self._share(name, layer_input)
        if not output.requires_grad:
            # The first layer of a frozen model: the backward pass need not go any deeper than here.
            output = output.detach().requires_grad_(True)

        def receive(layer_input: Tensor, gradient: Tensor) -> None:
            with _exact_products(layer_input.device):
                self._add(name, shared, rows, layer_input, gradient)

        tapped: Tensor = _Tap.apply(output, layer_input.detach(), receive)  # type: ignore[no-untyped-call]
        return tapped

    def _share(self, name: str, layer_input: Tensor) -> _SharedInput:
        """The record of this very tensor, and so the group of the layer."""
        shared = self._inputs.get(id(layer_input))
        if shared is None or shared.tensor() is not layer_input:
            shared = self._inputs[id(layer_input)] = _SharedInput(layer_input, group=name)
        group = self.input_groups.setdefault(name, shared.group)
        if group != shared.group:
            raise ValueError(
                f"layer {name} received the input of {group} before and now that of {shared.group}: models that change "
                "which layers share an input are not supported; leave the layer out of target_modules"
            )
        return shared

    def _add(self, name: str, shared: _SharedInput, rows: Rows, layer_input: Tensor, gradient: Tensor) -> None:
        dtype, scale = self._config.torch_dtype, self._loss_scale
        a, g = layer_input.flatten(0, -2), gradient.flatten(0, -2)
        attended_a, attended_g = _select(a, rows.attended), _select(g, rows.attended)
        self._accumulator.add(self.gradient_sums, name, product(attended_g, attended_a, dtype).div_(scale))

        counted_a, counted_g = attended_a, attended_g
        if rows.counted is not None:
            counted_a, counted_g = _select(a, rows.counted), _select(g, rows.counted)
        full = self._config.output_factor == "full"
        output = gram(counted_g, dtype) if full else counted_g.to(dtype).square().sum(0)
        self._accumulator.add(self.output_sums, name, output.div_(scale**2))
        self.tokens[name] = self.tokens.get(name, 0) + len(counted_g)
        if shared.summed_by in (None, name):
            shared.summed_by = name
            self._accumulator.add(self.input_sums, shared.group, gram(counted_a, dtype))
            self.input_tokens[shared.group] = self.input_tokens.get(shared.group, 0) + len(counted_a)


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


def _select(rows: Tensor, index: Tensor | None) -> Tensor:
    return rows if index is None else rows.index_select(0, index.to(rows.device))
