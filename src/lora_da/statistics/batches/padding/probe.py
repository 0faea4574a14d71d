"""Runs of a model on variants of one batch, which tell how the batch's positions lie in what its modules receive."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.indices import check_indices
from lora_da.statistics.batches.inputs import prepare_inputs
from lora_da.statistics.batches.padding.axis import PaddedAxis, with_other_content, without_boundaries
from lora_da.statistics.batches.padding.layout import Call, Comparison, Found, Layout, Unplaced
from lora_da.statistics.batches.padding.part import take_part
from lora_da.system.random_state import preserve_random_state

_ADDED = 3  # positions of padding, in the run that shows which axes grow with it
_ORDER = (Unplaced.CHOSEN, Unplaced.EXAMPLE, Unplaced.OFF, Unplaced.FIXED)

Calls = Mapping[nn.Module, Sequence[Call]]
Agree = Callable[[bool], bool]


@dataclass(frozen=True)
class Probe:
    """A model that is run to see what its modules receive.

    Attributes:
        model: The base model.
        entry: The module that is called.
        device: Where its inputs go.
        agree: Whether any process needs a run, given whether this one does: sharded weights take all of them.
    """

    model: nn.Module
    entry: nn.Module
    device: torch.device
    agree: Agree = bool

    def find_layouts(
        self, modules: Iterable[nn.Module], batch: Mapping[str, Any], axes: Sequence[PaddedAxis]
    ) -> dict[nn.Module, tuple[Found, ...]]:
        """Find how positions lie in each module's input, call by call; modules that are not called are left out.

        A small part of a batch of text is enough where it leaves nothing open.

        Raises:
            Exception: The model can't read the batch itself, or neither more padding nor a shorter text.
        """
        batch, modules = without_boundaries(batch), list(modules)
        part = take_part(batch, axes)
        if self.agree(part is not None):
            found: dict[nn.Module, tuple[Found, ...]] = {}
            with suppress(ValueError, IndexError, RuntimeError):
                found = self._study_padded(modules, *(part or (batch, axes)))
            if not self.agree(not _are_certain(found)):
                return found
        return self._study_padded(modules, batch, axes)

    def _study_padded(
        self, modules: Sequence[nn.Module], batch: Mapping[str, Any], axes: Sequence[PaddedAxis]
    ) -> dict[nn.Module, tuple[Found, ...]]:
        try:
            return self._study(modules, batch, axes)
        except (ValueError, IndexError, RuntimeError):  # no position so late: a shorter text is padded up again
            if any(axis.mask.shape[1] <= _ADDED for axis in axes):
                raise
            for axis in axes:
                batch = axis.shortened(batch, _ADDED)
            return self._study(modules, batch, [axis.cut(_ADDED) for axis in axes])

    def count_alone(self, modules: Iterable[nn.Module], batch: Mapping[str, Any], axis: PaddedAxis, row: int) -> Calls:
        """Watch the model read one row of a batch without its padding."""
        return self._run(list(modules), axis.single(without_boundaries(batch), row))

    def _study(
        self, modules: Sequence[nn.Module], batch: Mapping[str, Any], axes: Sequence[PaddedAxis]
    ) -> dict[nn.Module, tuple[Found, ...]]:
        example = int(axes[0].mask.sum(1).argmax()) if axes else 0
        first = self._run(modules, batch)
        changed = self._run(modules, with_other_content(self.model, batch, example))

        def compare(axis: PaddedAxis, added: int) -> dict[nn.Module, tuple[Found, ...]]:
            longer = self._run(modules, axis.lengthened(batch, added))
            comparison = Comparison(axis.name, axis.mask.cpu(), axis.side, added, example)
            return {
                module: _compare_calls(comparison, calls, changed.get(module, ()), longer.get(module, ()))
                for module, calls in first.items()
            }

        found: dict[nn.Module, tuple[Found, ...]] = {}
        for axis in axes:
            found = _united(found, compare(axis, _ADDED))
        if not axes:  # nothing is padded, but examples may share a table
            return {module: _compare_content(calls, changed.get(module, ())) for module, calls in first.items()}
        if self.agree(any(Unplaced.FIXED in calls for calls in found.values())):
            # Padded inside to a multiple of some length, or strided: what grows is seen with much more padding.
            for axis in axes:
                with suppress(ValueError, IndexError, RuntimeError):
                    found = _united(found, compare(axis, axis.mask.shape[1]), only=Unplaced.FIXED)
        return found

    def _run(self, modules: Sequence[nn.Module], batch: Mapping[str, Any]) -> Calls:
        """The calls of each module while the model reads a batch."""
        calls: dict[nn.Module, list[Call]] = {}

        def look(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = next((one for one in (*arguments, *options.values()) if _is_matrix(one)), None)
            if given is not None:
                calls.setdefault(module, []).append(Call.of(given))

        inputs = prepare_inputs(self.model, batch, self.device)
        with ExitStack() as hooks, preserve_random_state(), check_indices(self.model), torch.no_grad():
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)
            self.entry(**inputs, **self._without_logits(modules))
        return calls

    def _without_logits(self, modules: Sequence[nn.Module]) -> dict[str, int]:
        """What keeps the logits of all positions from being made, where no module that is watched lies behind them."""
        model: Any = self.model
        if "logits_to_keep" not in inspect.signature(model.forward).parameters or not hasattr(model, "get_decoder"):
            return {}
        decoder = model.get_decoder()
        body = next((set(part.modules()) for part in model.children() if decoder in set(part.modules())), set())
        return {"logits_to_keep": 1} if body.issuperset(modules) else {}


def _are_certain(found: Mapping[nn.Module, Sequence[Found]]) -> bool:
    """Whether each call's rows are placed; on a whole batch more may be."""
    calls = [call for calls in found.values() for call in calls]
    return bool(calls) and all(
        not call.counted if isinstance(call, Layout) else call is Unplaced.EXAMPLE for call in calls
    )


def _is_matrix(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _compare_content(first: Sequence[Call], changed: Sequence[Call]) -> tuple[Found, ...]:
    """Which calls of a module depend on what an example says, so that their rows belong to examples."""
    if len(first) != len(changed):
        return (Unplaced.CHOSEN,) * len(first)
    pairs = zip(first, changed, strict=True)
    return tuple(
        Unplaced.OFF if one.shape == other.shape and not bool(one.changed_from(other).any()) else Unplaced.EXAMPLE
        for one, other in pairs
    )


def _compare_calls(
    comparison: Comparison, first: Sequence[Call], changed: Sequence[Call], longer: Sequence[Call]
) -> tuple[Found, ...]:
    if not len(first) == len(changed) == len(longer):
        return (Unplaced.CHOSEN,) * len(first)
    return tuple(comparison.find(*calls) for calls in zip(first, changed, longer, strict=True))


def _united(
    found: Mapping[nn.Module, tuple[Found, ...]],
    further: Mapping[nn.Module, tuple[Found, ...]],
    only: Found | None = None,
) -> dict[nn.Module, tuple[Found, ...]]:
    """What is known of each call by either of two comparisons; the second one may speak of calls of one kind alone."""
    united = dict(found)
    for module, calls in further.items():
        before = found.get(module, calls)
        if len(before) != len(calls):
            united[module] = (Unplaced.CHOSEN,) * len(calls)
        else:
            pairs = zip(before, calls, strict=True)
            united[module] = tuple(one if only not in (None, one) else _clearer(one, other) for one, other in pairs)
    return united


def _clearer(one: Found, other: Found) -> Found:
    if isinstance(one, Layout) or isinstance(other, Layout):
        return one if isinstance(one, Layout) else other
    return min(one, other, key=_ORDER.index)


def ancestors_of(model: nn.Module, modules: Iterable[nn.Module]) -> dict[nn.Module, list[nn.Module]]:
    """Return the modules that hold each of some modules, the innermost first, without the model itself."""
    wanted = set(modules)
    held: dict[nn.Module, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if module in wanted:
            parts = name.split(".")
            held[module] = [model.get_submodule(".".join(parts[:end])) for end in range(len(parts) - 1, 0, -1)]
    return held
