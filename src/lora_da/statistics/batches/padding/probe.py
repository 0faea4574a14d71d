"""Runs of a model on variants of one batch, which tell how the batch's positions lie in what its modules receive."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import prepare_inputs
from lora_da.statistics.batches.padding.axis import PaddedAxis, with_other_content, without_boundaries
from lora_da.statistics.batches.padding.layout import CHOSEN, EXAMPLE, FIXED, OFF, Call, Comparison, Found, Layout
from lora_da.system.random_state import preserve_random_state

_ADDED = 3  # positions of padding, in the run that shows which axes grow with it
_ORDER = (CHOSEN, EXAMPLE, FIXED, OFF)

Calls = Mapping[nn.Module, Sequence[Call]]
Agree = Callable[[bool], bool]


@dataclass(frozen=True)
class Probe:
    """A model whose calls are watched.

    Attributes:
        model: The base model.
        entry: The module that is called.
        device: Where its inputs go.
        modules: The modules whose inputs are looked at.
        agree: Whether any process needs a run, given whether this one does: sharded weights take all of them.
    """

    model: nn.Module
    entry: nn.Module
    device: torch.device
    modules: Sequence[nn.Module]
    agree: Agree = bool

    def find_layouts(self, batch: Mapping[str, Any], axes: Sequence[PaddedAxis]) -> dict[nn.Module, tuple[Found, ...]]:
        """Find how positions lie in each module's input, call by call; modules that are not called are left out.

        Raises:
            Exception: The model can't read the batch itself, or not with more padding or a shorter text.
        """
        batch = without_boundaries(batch)
        found: dict[nn.Module, tuple[Found, ...]] = {}
        for axis in axes:
            found = _united(found, self._along(batch, axis))
        return found

    def count_alone(self, batch: Mapping[str, Any], axis: PaddedAxis, example: int) -> Calls:
        """Watch the model read one example of a batch without its padding."""
        return self._run(axis.single(without_boundaries(batch), example))

    def _along(self, batch: Mapping[str, Any], axis: PaddedAxis) -> dict[nn.Module, tuple[Found, ...]]:
        found = self._compared(batch, axis, _ADDED)
        unclear = any(FIXED in calls for calls in found.values())
        if self.agree(unclear):  # padded inside to a multiple of some length, or strided: seen with much more padding
            further = self._compared(batch, axis, axis.mask.shape[1])
            found |= {module: further.get(module, calls) for module, calls in found.items() if FIXED in calls}
        return found

    def _compared(self, batch: Mapping[str, Any], axis: PaddedAxis, added: int) -> dict[nn.Module, tuple[Found, ...]]:
        example, length = int(axis.mask.sum(1).argmax()), axis.mask.shape[1]
        try:
            longer = self._run(axis.lengthened(batch, added))
        except (ValueError, IndexError, RuntimeError):  # no position so late: a shorter text is padded up again
            added = min(added, length // 2)
            if added == 0:
                raise
            mask = axis.mask[:, : length - added] if axis.side == "right" else axis.mask[:, added:]
            batch, axis = axis.shortened(batch, added), PaddedAxis(axis.name, mask, axis.tensors, axis.fill)
            longer = self._run(axis.lengthened(batch, added))
        first = self._run(batch)
        changed = self._run(with_other_content(self.model, batch, example))
        comparison = Comparison(axis.name, axis.mask.cpu(), axis.side, added, example)
        return {
            module: _compare_calls(comparison, calls, changed.get(module, ()), longer.get(module, ()))
            for module, calls in first.items()
        }

    def _run(self, batch: Mapping[str, Any]) -> Calls:
        """The calls of each module while the model reads a batch."""
        calls: dict[nn.Module, list[Call]] = {}

        def look(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = next((one for one in (*arguments, *options.values()) if _is_matrix(one)), None)
            if given is not None:
                calls.setdefault(module, []).append(Call.of(given))

        inputs = prepare_inputs(self.model, batch, self.device)
        with ExitStack() as hooks, preserve_random_state(), torch.no_grad():
            for module in self.modules:
                hooks.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)
            self.entry(**inputs, **self._without_logits())
        return calls

    def _without_logits(self) -> dict[str, int]:
        """What keeps the logits of all positions from being made, where no layer that is watched makes them."""
        head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
        if head is None or "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            return {}
        return {} if not set(head.modules()).isdisjoint(self.modules) else {"logits_to_keep": 1}


def _is_matrix(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _compare_calls(
    comparison: Comparison, first: Sequence[Call], changed: Sequence[Call], longer: Sequence[Call]
) -> tuple[Found, ...]:
    if not len(first) == len(changed) == len(longer):
        return (CHOSEN,) * len(first)
    return tuple(comparison.find(*calls) for calls in zip(first, changed, longer, strict=True))


def _united(
    found: dict[nn.Module, tuple[Found, ...]], further: Mapping[nn.Module, tuple[Found, ...]]
) -> dict[nn.Module, tuple[Found, ...]]:
    """What is known of each call along either of two axes."""
    united = dict(found)
    for module, calls in further.items():
        before = found.get(module, calls)
        united[module] = tuple(map(_clearer, before, calls)) if len(before) == len(calls) else (CHOSEN,) * len(calls)
    return united


def _clearer(one: Found, other: Found) -> Found:
    return one if isinstance(one, Layout) else other if isinstance(other, Layout) else min(one, other, key=_ORDER.index)


def ancestors_of(model: nn.Module, modules: Iterable[nn.Module]) -> dict[nn.Module, list[nn.Module]]:
    """Return the modules that hold each of some modules, the innermost first, without the model itself."""
    wanted = set(modules)
    held: dict[nn.Module, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if module in wanted:
            parts = name.split(".")
            held[module] = [model.get_submodule(".".join(parts[:end])) for end in range(len(parts) - 1, 0, -1)]
    return held
