"""Which rows of each layer's input are tokens, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.examples import batch_size
from lora_da.statistics.batches.padding.axis import PaddedAxis, find_axes
from lora_da.statistics.batches.padding.chosen_rows import ChosenRows
from lora_da.statistics.batches.padding.layout import Found, Layout, Unplaced
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
        self._names: dict[nn.Module, set[str]] = {}
        for name, module in self._modules.items():
            self._names.setdefault(module, set()).add(name)
        self._around = ancestors_of(model, self._modules.values())
        self._probe = Probe(model, entry, device, agree)
        self._layouts: dict[Any, tuple[Layouts, ChosenRows]] = {}
        self._alone: dict[tuple[str, int], dict[nn.Module, list[tuple[int, ...]]]] = {}

    @contextmanager
    def locate(self, batch: Mapping[str, Any]) -> Iterator[TokenRowsOf]:
        """Yield the function that tells which rows of the layers' inputs are tokens, while the model reads a batch.

        The own padding of packed batches is left out as well.
        """
        axes = self._axes_of(batch)
        kind = tuple(sorted(batch)), tuple((axis.name, axis.side) for axis in axes)
        padded = any(not bool(axis.mask.all()) for axis in axes)
        # Processes that share the weights go the same way, with as many runs of the model.
        several = self._agree(padded or batch_size(batch) > 1)
        if self._agree(several and kind not in self._layouts):
            try:
                self._layouts[kind] = self._study(batch, axes)
            except torch.OutOfMemoryError:
                raise
            except (ValueError, IndexError, RuntimeError):
                # The batch itself may be at fault, as will show; else all rows of all layers count, as a notice says.
                self._layouts[kind] = {}, ChosenRows({})
        if not several:
            yield lambda _layer, _input: TokenRows()
            return
        layouts, chosen = self._layouts[kind]
        self._read_alone(batch, axes, layouts)
        located = _LocatedBatch(layouts, chosen, {axis.name: axis for axis in axes}, self._count)

        def rows_of(layer: str, layer_input: Tensor) -> TokenRows:
            module = self._modules[layer]
            rows, told = located.find_rows(module, layer_input)
            if not told:
                self.wholly_counted |= self._names[module]
            return rows

        with ExitStack() as hooks:
            chosen.attach(hooks, located.find_rows)
            yield rows_of

    def _axes_of(self, batch: Mapping[str, Any]) -> list[PaddedAxis]:
        segments = find_segments(batch)
        return find_axes(self._model, batch, None if segments is None else segments.numbers >= 0)

    def _study(self, batch: Mapping[str, Any], axes: list[PaddedAxis]) -> tuple[Layouts, ChosenRows]:
        layouts = self._probe.find_layouts(self._names, batch, axes)
        unclear = [module for module in self._names if Unplaced.CHOSEN in layouts.get(module, (Unplaced.CHOSEN,))]
        if self._agree(bool(unclear)):
            outer = dict.fromkeys(one for around in self._around.values() for one in around)
            layouts |= self._probe.find_layouts(outer, batch, axes)
        return layouts, ChosenRows(self._sources_in(layouts, unclear))

    def _sources_in(self, layouts: Layouts, unclear: list[nn.Module]) -> dict[nn.Module, list[nn.Module]]:
        """The modules around those whose rows are chosen, up to the one that they are chosen from."""
        sources = {}
        for module in unclear:
            called = [outer for outer in self._around[module] if outer in layouts]
            index = next((i for i, outer in enumerate(called) if _is_certain(layouts[outer][0])), None)
            if index is not None:
                sources[module] = called[: index + 1]
        # Beside a module that receives chosen rows others do, which the probe may have given all rows, one by one.
        choosing = {around[-1] for around in sources.values()}
        for module in self._around.keys() - sources.keys():
            called = [outer for outer in self._around[module] if outer in layouts]
            index = next((i for i, outer in enumerate(called) if outer in choosing), None)
            in_one_list = any(isinstance(one, Layout) and one.order != "apart" for one in layouts.get(module, ()))
            if index is not None and in_one_list:
                sources[module] = called[: index + 1]
        return sources

    def _read_alone(self, batch: Mapping[str, Any], axes: list[PaddedAxis], layouts: Layouts) -> None:
        """Let the model read examples by themselves, of lengths not seen yet, where only that tells their rows."""
        fewer = {one.axis for calls in layouts.values() for one in calls if isinstance(one, Layout) and one.counted}
        todo = [
            (axis, row, length)
            for axis in axes
            if axis.name in fewer
            for row, length in enumerate(axis.mask.sum(1).tolist())
        ]
        while self._agree(any((axis.name, length) not in self._alone for axis, _, length in todo)):
            missing = (one for one in todo if (one[0].name, one[2]) not in self._alone)
            axis, row, length = next(missing, (axes[0], 0, int(axes[0].mask[0].sum())))  # or what another process needs
            calls = self._probe.count_alone(self._names, batch, axis, row)
            self._alone[axis.name, length] = {one: [call.shape for call in own] for one, own in calls.items()}

    def _count(self, axis: PaddedAxis, module: nn.Module, layout: Layout, call: int) -> Tensor | None:
        """How many rows each example has in one of a module's calls by itself, without padding."""
        found = []
        for length in axis.mask.sum(1).tolist():
            shapes = self._alone[axis.name, length].get(module, [])
            if call >= len(shapes) or layout.positions >= len(shapes[call]):
                return None
            found.append(layout.length_of(shapes[call], 1))
        return torch.tensor(found)


def _is_certain(found: Found) -> bool:
    return isinstance(found, Layout) and not found.counted


class _LocatedBatch:
    """The token rows of one batch, each kind of input's found once."""

    def __init__(
        self,
        layouts: Layouts,
        chosen: ChosenRows,
        axes: Mapping[str, PaddedAxis],
        count: Callable[[PaddedAxis, nn.Module, Layout, int], Tensor | None],
    ) -> None:
        self._layouts, self._chosen, self._axes, self._count = layouts, chosen, axes, count
        self._found: dict[tuple[Layout, tuple[int, ...], tuple[int, ...] | None], TokenRows | None] = {}
        self._calls: dict[nn.Module, int] = {}

    def find_rows(self, module: nn.Module, module_input: Tensor) -> tuple[TokenRows, bool]:
        """The token rows of an input, and whether they could be told: if not, these are all."""
        chosen = self._chosen.find(module, module_input)
        if chosen is not None:
            return chosen, True
        calls = self._layouts.get(module, ())
        if not calls or not all(isinstance(found, Layout) or found is Unplaced.EXAMPLE for found in calls):
            return TokenRows(), False
        # Checkpointing may run a part of the model once more, but always all calls of a layer in turn.
        number = self._calls.get(module, 0) % len(calls)
        self._calls[module] = number + 1
        layout = calls[number]
        if not isinstance(layout, Layout):
            return TokenRows(), True
        rows = self._rows_in(module, layout, number, tuple(module_input.shape[:-1]))
        return rows or TokenRows(), rows is not None

    def _rows_in(self, module: nn.Module, layout: Layout, call: int, shape: tuple[int, ...]) -> TokenRows | None:
        axis = self._axes[layout.axis]
        if bool(axis.mask.all()):
            return TokenRows()
        counts = self._count(axis, module, layout, call) if layout.counted else None
        key = layout, shape, None if counts is None else tuple(counts.tolist())
        if key not in self._found:
            rows = layout.rows(shape, axis.mask, counts, axis.side)
            self._found[key] = None if rows is None else TokenRows.where(rows)
        return self._found[key]
