"""Which rows of each layer's input are tokens, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.padding.axis import PaddedAxis, find_axes
from lora_da.statistics.batches.padding.chosen_rows import ChosenRows
from lora_da.statistics.batches.padding.layout import CHOSEN, EXAMPLE, Found, Layout
from lora_da.statistics.batches.padding.probe import Agree, Probe, ancestors_of
from lora_da.statistics.batches.segments import find_segments
from lora_da.statistics.batches.token_rows import TokenRows, TokenRowsOf
from lora_da.statistics.layers import Layer, ParameterLayer

Layouts = Mapping[nn.Module, tuple[Found, ...]]


class TokenLocator:
    """Finds which rows of layers' inputs are tokens, where a batch has padding.

    How positions lie in the inputs is found out once for batches of a kind, by a few runs of the model on the first.

    Attributes:
        wholly_counted: The layers of which all rows were counted in a batch with padding, since their inputs don't
            follow its masks, or not in a way that can be told.
    """

    def __init__(
        self, model: nn.Module, entry: nn.Module, device: torch.device, layers: Mapping[str, Layer], agree: Agree = bool
    ) -> None:
        """Prepare for the layers of a base model, of which ``entry`` is called with inputs on the device.

        In a job whose processes share the weights, ``agree`` tells whether any of them needs a run of the model.
        """
        self.wholly_counted: set[str] = set()
        self._model, self._agree = model, agree
        self._modules = {
            name: layer.module if isinstance(layer, ParameterLayer) else layer for name, layer in layers.items()
        }
        self._around = ancestors_of(model, self._modules.values())
        watched = dict.fromkeys(self._modules.values())
        watched |= dict.fromkeys(outer for around in self._around.values() for outer in around)
        self._probe = Probe(model, entry, device, list(watched), agree)
        self._layouts: dict[Any, tuple[Layouts, ChosenRows]] = {}
        self._alone: dict[tuple[str, int], dict[nn.Module, list[tuple[int, ...]]]] = {}

    @contextmanager
    def locate(self, batch: Mapping[str, Any]) -> Iterator[TokenRowsOf]:
        """Yield the function that tells which rows of the layers' inputs are tokens, while the model reads a batch.

        The own padding of packed batches is left out as well.
        """
        axes = self._axes_of(batch)
        padded = any(not bool(axis.mask.all()) for axis in axes)
        kind = tuple(sorted(batch)), tuple((axis.name, axis.side) for axis in axes)
        if self._agree(padded and kind not in self._layouts):
            self._layouts[kind] = self._study(batch, axes)
        if not padded:
            yield lambda _layer, _input: TokenRows()
            return
        layouts, chosen = self._layouts[kind]
        located = _LocatedBatch(layouts, chosen, {axis.name: axis for axis in axes}, self._counts_of(batch))
        names: dict[nn.Module, set[str]] = {}
        for name, module in self._modules.items():
            names.setdefault(module, set()).add(name)

        def rows_of(layer: str, layer_input: Tensor) -> TokenRows:
            module = self._modules[layer]
            rows, told = located.find_rows(module, layer_input)
            if not told:
                self.wholly_counted |= names[module]
            return rows

        with ExitStack() as hooks:
            chosen.attach(hooks, lambda module, given: located.find_rows(module, given)[0])
            yield rows_of

    def _axes_of(self, batch: Mapping[str, Any]) -> list[PaddedAxis]:
        segments = find_segments(batch)
        return find_axes(self._model, batch, None if segments is None else segments.numbers >= 0)

    def _study(self, batch: Mapping[str, Any], axes: list[PaddedAxis]) -> tuple[Layouts, ChosenRows]:
        layouts = self._probe.find_layouts(batch, axes)
        sources = {}
        for module, around in self._around.items():
            calls = layouts.get(module, (CHOSEN,))
            inner = [outer for outer in around if outer in layouts]
            index = next((i for i, outer in enumerate(inner) if isinstance(layouts[outer][0], Layout)), None)
            if CHOSEN in calls and index is not None:
                sources[module] = inner[: index + 1]
        # Beside a module that receives chosen rows others may do, which seemed to receive all.
        choosing = {around[-1] for around in sources.values()}
        for module, around in self._around.items():
            if module not in sources:
                index = next((i for i, outer in enumerate(around) if outer in choosing), None)
                if index is not None:
                    sources[module] = around[: index + 1]
        return layouts, ChosenRows(sources)

    def _counts_of(self, batch: Mapping[str, Any]) -> Callable[[PaddedAxis, nn.Module, Layout], Tensor | None]:
        """How many rows each of a batch's examples has in a module by itself, without padding."""

        def counts(axis: PaddedAxis, module: nn.Module, layout: Layout) -> Tensor | None:
            found = []
            for example, length in enumerate(axis.mask.sum(1).tolist()):
                if (axis.name, length) not in self._alone:
                    calls = self._probe.count_alone(batch, axis, example)
                    self._alone[axis.name, length] = {one: [call.shape for call in own] for one, own in calls.items()}
                shapes = self._alone[axis.name, length].get(module, [])
                lengths = {layout.length_of(shape, 1) for shape in shapes if len(shape) > layout.positions}
                if len(lengths) != 1:
                    return None
                found.append(lengths.pop())
            return torch.tensor(found)

        return counts


class _LocatedBatch:
    """The token rows of one batch, each kind of input's found once."""

    def __init__(
        self,
        layouts: Layouts,
        chosen: ChosenRows,
        axes: Mapping[str, PaddedAxis],
        counts: Callable[[PaddedAxis, nn.Module, Layout], Tensor | None],
    ) -> None:
        self._layouts, self._chosen, self._axes, self._counts = layouts, chosen, axes, counts
        self._found: dict[tuple[Layout, tuple[int, ...], tuple[int, ...] | None], TokenRows | None] = {}
        self._calls: dict[nn.Module, int] = {}

    def find_rows(self, module: nn.Module, module_input: Tensor) -> tuple[TokenRows, bool]:
        """The token rows of an input, and whether they could be told: if not, these are all."""
        chosen = self._chosen.find(module, module_input)
        if chosen is not None:
            return chosen, True
        calls = self._layouts.get(module, ())
        number = self._calls.get(module, 0)
        self._calls[module] = number + 1
        shape = tuple(module_input.shape[:-1])
        fitting = {}
        for layout in dict.fromkeys(calls):
            if isinstance(layout, Layout):
                rows = self._rows_in(module, layout, shape)
                if rows is not None:
                    fitting[layout] = rows
        # A module that is called several times, with positions and with what is none, is told them apart by turns.
        this = calls[number % len(calls)] if calls else CHOSEN
        if this in fitting:
            return fitting[this], True
        if len(fitting) == 1 and len(set(calls)) == 1:
            return next(iter(fitting.values())), True
        return TokenRows(), this == EXAMPLE

    def _rows_in(self, module: nn.Module, layout: Layout, shape: tuple[int, ...]) -> TokenRows | None:
        axis = self._axes[layout.axis]
        if bool(axis.mask.all()):
            return TokenRows()
        counts = self._counts(axis, module, layout) if layout.kind == "fewer" else None
        key = layout, shape, None if counts is None else tuple(counts.tolist())
        if key not in self._found:
            rows = layout.rows(shape, axis.mask, counts, axis.side)
            self._found[key] = None if rows is None else TokenRows.where(rows)
        return self._found[key]
