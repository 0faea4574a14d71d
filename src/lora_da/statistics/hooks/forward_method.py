"""A module's forward method, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module run another method, and give it back its own at the end, whatever happens.

    Args:
        module: The module; it may have a forward method of its own beside its class's, as accelerate gives to those
            that it dispatches over devices.
        forward: What is called in its place, without the module.
    """
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
