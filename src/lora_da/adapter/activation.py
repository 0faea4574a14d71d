"""Which adapters of a model are active, for the time of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Disable every adapter of every layer, ``modules_to_save`` included.

    Those that were enabled are enabled again at the end, with their ``requires_grad`` as before.
    """
    adapters = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    layers = [m for m in model.modules() if isinstance(m, adapters) and not m.disable_adapters]
    with _required_gradients_kept(model):
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)


@contextmanager
def only_adapter_active(model: nn.Module, adapter_name: str) -> Iterator[None]:
    """Activate one adapter alone; those that were active are so again at the end, with every ``requires_grad``."""
    before = [(m, m.active_adapter, m.disable_adapters) for m in model.modules() if isinstance(m, BaseTunerLayer)]
    with _required_gradients_kept(model):
        try:
            for layer, _, _ in before:
                layer.set_adapter([adapter_name])
                layer.enable_adapters(True)
            yield
        finally:
            for layer, active, disabled in before:
                layer.set_adapter(active)
                layer.enable_adapters(not disabled)


@contextmanager
def _required_gradients_kept(model: nn.Module) -> Iterator[None]:
    """Put back every parameter's ``requires_grad``, which PEFT changes when it switches adapters."""
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, was_required in required.items():
            parameter.requires_grad_(was_required)
