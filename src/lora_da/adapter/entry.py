"""Calling a model through a user's module around it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn


class Entry(nn.Module):
    """A module around a model, called with more than it takes: the rest goes to the model inside.

    That are arguments which this library adds, such as positions derived from the mask.
    """

    def __init__(self, outer: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.outer, self._inner = outer, [inner]  # not a second time among the submodules
        self._taken = set(inspect.signature(outer.forward).parameters)

    def forward(self, **inputs: Any) -> Any:
        """Call the outer module, and let the inner one receive what that does not take."""
        rest = {name: inputs.pop(name) for name in inputs.keys() - self._taken}

        def add(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return given, rest | options

        hook = self._inner[0].register_forward_pre_hook(add, with_kwargs=True)
        try:
            return self.outer(**inputs)
        finally:
            hook.remove()


def open_entry(outer: nn.Module, inner: nn.Module) -> nn.Module:
    """Return what to call with a model's inputs: the outermost module around it, see :class:`Entry`."""
    kinds = {parameter.kind for parameter in inspect.signature(outer.forward).parameters.values()}
    return outer if outer is inner or inspect.Parameter.VAR_KEYWORD in kinds else Entry(outer, inner)
